"""A pass by a program that JAX compiled, and what the compiler says of it."""

from collections.abc import Callable
from typing import Any

import jax


class Program:
    """Runs a pass, and tells how much memory its compiled program takes beside its arguments and what it returns."""

    def __init__(self, one_pass: Callable[[], Any], jitted: Any, *arguments: Any) -> None:
        """The arguments' shapes count; a pass may take their memory."""
        self._one_pass, self._jitted = one_pass, jitted
        self._shapes = jax.eval_shape(lambda *arguments: arguments, *arguments)

    def __call__(self) -> Any:
        """Its losses."""
        return self._one_pass()

    def temporaries(self) -> int:
        """Bytes."""
        return int(self._jitted.lower(*self._shapes).compile().memory_analysis().temp_size_in_bytes)
