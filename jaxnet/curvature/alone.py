"""What is read of parameters that are used once, and cannot be put together where they are used again."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from jaxnet.factored import map_leaves


@partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["quantity", "instead"])
@dataclass(frozen=True)
class Alone:
    """A reading at one use of a parameter: the sum over two uses is not the parameter's own, and is refused.

    Attributes:
      values: what was read.
      quantity: its name, for the message.
      instead: what can be asked of parameters that are used twice.
    """

    values: Any
    quantity: str
    instead: str

    def add(self, other: Any) -> "Alone":
        raise self._refusal()

    def over_uses(self) -> "Alone":
        raise self._refusal()

    def _refusal(self):
        return ValueError(
            f"{self.quantity}: expected parameters that are used once, got some that are used twice; use {self.instead}"
        )


def values_of(readings: Any) -> Any:
    """What was read, in the structure of the parameters."""
    return map_leaves(lambda reading: reading.values, readings)
