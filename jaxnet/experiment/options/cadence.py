"""When a checkpoint is due, and where an epoch may be cut for it."""

import re
import time
from typing import NamedTuple

from jaxnet.experiment.console.errors import BadInput

UNITS = {"": "steps", "steps": "steps", "s": "seconds", "epoch": "epochs", "epochs": "epochs"}


class Cadence(NamedTuple):
    """Every so many steps, seconds or epochs; 0 of them: never.

    Attributes:
      every: how many.
      unit: 'steps', 'seconds' or 'epochs'.
    """

    every: int
    unit: str

    @classmethod
    def read(cls, text: str) -> "Cadence":
        """From '500' or '500steps', '60s', '2epochs', or '0'.

        Raises:
          BadInput: when it is something else.
        """
        match = re.fullmatch(r"(\d{1,9}) ?(steps|s|epochs?|)", text.strip())
        if match is None:
            raise BadInput(f"--checkpoint-every: expected steps, as 500, seconds, as 60s, or 2epochs; got {text!r}")
        return cls(int(match[1]), UNITS[match[2]])

    def cuts(self, first: int, batches: int, step: int, most: int) -> list[tuple[int, int]]:
        """From which batch to which an epoch is computed, piece after piece, from batch `first` to its end.

        The cuts lie at the same places wherever the run was taken up again: then the same programs run, and their
        numbers are the same to the last bit.

        Args:
          first: the batch to begin with.
          batches: in the epoch.
          step: updates before the epoch began.
          most: batches in a piece.
        """
        ends = {*range(most, batches, most), batches}
        if self.every and self.unit == "steps":
            ends |= {end for end in range(1, batches) if (step + end) % self.every == 0}
        inside = sorted(end for end in ends if end > first)
        return list(zip([first, *inside[:-1]], inside, strict=True))

    def due(self, step: int, epoch: int | None, since: float) -> bool:
        """Whether it is time.

        Args:
          step: updates so far.
          epoch: the epoch that has just ended; None inside of one.
          since: `time.monotonic` at the last checkpoint.
        """
        if not self.every:
            return False
        if self.unit == "seconds":
            return time.monotonic() - since >= self.every
        if self.unit == "epochs":
            return epoch is not None and epoch % self.every == 0
        return step % self.every == 0


NEVER = Cadence(0, "steps")
