"""What is asked of arguments before anything is computed: one line says what was expected, and what to do."""

import inspect
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp


def positive_integer(where: str, what: str, value: Any) -> int:
    """A size, of any type that counts: Python's, NumPy's, JAX's."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{where}: expected {what} to be a positive integer, got {shown(value)}")
    return number


def whole_number(where: str, what: str, value: Any) -> int:
    """An integer of either sign, of any type that counts."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{where}: expected {what} to be an integer, got {shown(value)}") from None


def integers(values: Any) -> tuple[int, ...] | None:
    """Integers of any type that counts, as a tuple of Python's; None where there are others, or no sequence."""
    try:
        return tuple(map(operator.index, values))
    except TypeError:
        return None


def positive_number(where: str, what: str, value: Any) -> float:
    """A finite number above 0, of any type that counts as one."""
    number = float(value) if hasattr(value, "__float__") else 0.0
    if not 0 < number < math.inf:
        raise ValueError(f"{where}: expected {what} to be a positive number, got {shown(value)}")
    return number


def instance_of(kind: type, where: str, what: str, value: Any, example: str) -> None:
    """Refuses what is no layer, or no loss, or whatever the kind is.

    Args:
      kind: the class.
      where: the function that was called.
      what: is expected: 'activation to be a Layer'.
      value: what was given.
      example: of the kind.
    """
    if not isinstance(value, kind):
        makes_one = getattr(value, "__annotations__", {}).get("return") is kind
        hint = f", which makes one: call it, as in {_call(value)}" if makes_one else ""
        raise ValueError(f"{where}: expected {what}, such as {example}, got {shown(value)}{hint}")


def accepts(function: Any, *arguments: str) -> bool:
    """Whether a function can be called with these arguments by position; what tells no signature is taken at its word.

    Args:
      function: what was given.
      arguments: their names.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return callable(function)
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def count_examples(where: str, x: Any, y: Any, *, axes: int = 1, least: int = 1) -> Any:
    """How many examples x and y have, both as many; with two axes it is batches of examples."""
    inputs, targets = ((*map(jnp.shape, jax.tree.leaves(tree)), ())[0] for tree in (x, y))
    single = len(inputs) < axes + 1
    # A loss of one's own may take no y, or one y for all.
    if len(inputs) < axes or (inputs[:axes] != targets[:axes] and (single or targets)):
        what, one = ("examples", "example") if axes == 1 else ("batches and examples", "batch")
        hint = f"; pass a single {one} as x[None] and y[None]" if single else ""
        # Of numbers, and not of arrays, each of which has the examples.
        if isinstance(x, list) and not inputs:
            hint = "; make arrays of lists, as by np.asarray"
        raise ValueError(
            f"{where}: expected x and y to have the same number of {what}, at least 1, "
            f"got shapes {inputs} and {targets}{hint}"
        )
    if least:
        require_examples(where, x, axes=axes)
    return inputs[0]


def require_examples(where: str, x: Any, *, axes: int = 1) -> None:
    """Refuses an empty batch, in the name of what would average over it."""
    require_some(where, *jnp.shape(jax.tree.leaves(x)[0])[:axes])


def require_some(where: str, *examples: Any) -> None:
    """Refuses a batch whose numbers of examples, or of batches and examples, are 0 somewhere."""
    if 0 in examples:
        raise ValueError(f"{where}: expected at least one example, got an empty batch")


def shown(value: Any) -> str:
    """What a message calls a value: the value itself where it is short, and else what kind of thing it is."""
    if inspect.isroutine(value) or (callable(value) and hasattr(value, "__name__")):
        return f"the function {value.__name__}"
    if hasattr(value, "forward"):
        return f"the {type(value).__name__.lower()} {value!r}"
    text = repr(value)
    return text if len(text) < 60 and "\n" not in text else f"a {type(value).__name__}"


def _call(function):
    taken = inspect.signature(function).parameters.values()
    positional = [one for one in taken if one.kind is not one.KEYWORD_ONLY]
    values = (one.name if one.default is one.empty else repr(one.default) for one in positional)
    return f"{function.__name__}({', '.join(values)})"
