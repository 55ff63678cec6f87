"""What to do where numbers are no longer finite: an epoch's steps are made again, and what went wrong is named."""

from typing import Any, NamedTuple

import numpy as np

from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.training import faults, updates
from jaxnet.experiment.training.batches import Batches
from jaxnet.experiment.training.faults import Fault
from jaxnet.experiment.training.objective import Objective
from jaxnet.experiment.training.position import Position
from jaxnet.experiment.training.seeds import pieces_of_seed, state_of_seed


class Retrace(NamedTuple):
    """An epoch's steps from a position on.

    Attributes:
      objective, layout, batches: of the run.
      may_skip: whether a batch may have a loss that is not finite, since it is passed over.
      remedy: what messages advise.
      order: which examples make up each batch of the epoch.
      cuts: from which batch to which, piece after piece.
      start: the position, whose state no step takes over.
      first_seed: of several seeds, whose axis is the first; None of one.
    """

    objective: Objective
    layout: Layout
    batches: Batches
    may_skip: bool
    remedy: str
    order: np.ndarray
    cuts: list[tuple[int, int]]
    start: Position
    first_seed: int | None = None

    def settled(self, losses: Any) -> np.ndarray:
        """Losses of a piece on the host, once it is sure that all are finite, or may be otherwise.

        Raises:
          Fault: naming the step, and where in it that arose.
        """
        values = np.asarray(losses)
        if not self.may_skip and not np.isfinite(values).all():
            raise self.fault("the loss", _first_bad(values))
        return values

    def require_some_kept(self, state: Any, steps: int) -> None:
        """Refuses so many steps, to the state, that were all skipped.

        Raises:
          Fault: naming the first of them.
        """
        if self._skipped(state) == steps:
            raise Fault(f"every batch of epoch {self._number} was skipped: {self.fault('the loss')}")

    def invalid(self, state: Any, steps: int, losses: Any) -> Fault:
        """What to say of validation losses that are not all finite, after so many steps, to the state."""
        fault, skipped = self.fault("the validation loss", _first_bad(np.atleast_2d(losses))), self._skipped(state)
        if not skipped:
            return fault
        return Fault(
            f"the validation loss is not finite after epoch {self._number}, of whose last {steps} batches {skipped} "
            f"were skipped: {fault}"
        )

    def fault(self, what: str, number: int = 0) -> Fault:
        """What went wrong, found by making the steps again; of several seeds those of that number."""
        pieces, state, whose = self.batches.pieces(self.order, self.cuts), self.start.state, ""
        if self.first_seed is not None:
            pieces, state = pieces_of_seed(pieces, number), state_of_seed(state, number)
            whose = f" of seed {self.first_seed + number}"
        found = faults.find(self.objective, self.layout, state, pieces)
        if found is None:
            finite = "though every step's loss and parameters are"
            return Fault(f"{what}{whose} is not finite after epoch {self._number}, {finite}; {self.remedy}")
        index, first, told = found
        at = f"epoch {self._number}, batch {self.cuts[0][0] + index + 1} (step {self.start.step + index + 1}){whose}"
        return Fault(f"{first} is no longer finite in {at}: {told}; {self.remedy}")

    @property
    def _number(self):
        return len(self.start.epochs) + 1

    def _skipped(self, state):
        """How many of the steps to the state; None where none may be."""
        after, before = (updates.skipped(of.opt_state) for of in (state, self.start.state))
        return None if after is None or before is None else after - before


def _first_bad(losses):
    """Of losses (k, seeds): the first seed with one that is not finite; 0 of one seed."""
    return 0 if losses.ndim == 1 else int(np.isfinite(losses).all(axis=0).argmin())
