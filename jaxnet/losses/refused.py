"""What a loss does not have, in the place of a function: called, it says so by the loss's name, and why."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refused:
    """In the place of a loss's `root_hessian` or `sample`, for a loss that has none.

    Attributes:
      message: the line of the ValueError that a call raises: the loss, what it does not have and why, and what to do.
    """

    message: str

    def __call__(self, *arguments: Any) -> Any:
        raise ValueError(self.message)


def no_sample(name: str, why: str) -> Refused:
    """In the place of `sample`, for a loss that is no log-likelihood."""
    return Refused(
        f"{name}: has no sample, since {why}; use what needs none, as curvature.exact or curvature.empirical do"
    )
