"""When a run gives its position away: where a checkpoint is due, or whoever runs it asks to stop."""

import time
from collections.abc import Callable, Iterator

from jaxnet.experiment.options.cadence import Cadence
from jaxnet.experiment.training.position import Position


class Pauses:
    """Between pieces of an epoch, and after epochs.

    Args:
      ask: is told whether a checkpoint is due, and says whether to yield a position.
      cadence: of checkpoints.
      step: where the run begins or goes on.
    """

    def __init__(self, ask: Callable[[bool], bool], cadence: Cadence, step: int) -> None:
        self._ask, self._cadence = ask, cadence
        self._since, self._last = time.monotonic(), step

    def asked(self, step: int, epoch: int | None = None) -> bool:
        """Whether to give the position after so many steps, and after an epoch that has just ended, if one has."""
        return self._ask(self._cadence.due(step, epoch, self._since))

    def give(self, position: Position) -> Iterator[Position]:
        """Yields the position, and goes on when it is saved."""
        yield position
        self._since, self._last = time.monotonic(), position.step

    def first(self, position: Position) -> Iterator[Position]:
        """Yields the position if there was none before."""
        if not self._last:
            yield from self.give(position)

    def last(self, position: Position) -> Iterator[Position]:
        """Yields the position at the run's end, unless it was the last one already."""
        if self._last != position.step:
            yield from self.give(position)
