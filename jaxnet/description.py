"""How a layer or a loss shows itself: by the functions that it is made of, and by what was bound to them."""

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, cast

import numpy as np

# Of a longer chain the first and the last layers are shown.
FIRST, LAST = 4, 3


def name_of(function: Callable[..., Any]) -> str:
    """'dense' of `dense_forward`, whatever was bound to it, and of what is `named_as` it."""
    return _own_name(inspect.unwrap(function))


def named_as(function: Callable[..., Any], other: partial[Any]) -> partial[Any]:
    """The other function under the name of this one, which it stands in for: what messages call it."""
    return cast(partial[Any], update_wrapper(other, function, assigned=(), updated=()))


def call_of(forward: Callable[..., Any]) -> str:
    """'dense(3, 4)' of `partial(dense_forward, 3, 4)`, 'tanh' of `tanh_forward`."""
    if not isinstance(forward, partial):
        return _own_name(forward)
    shown = [text for value in forward.args for text in _texts(value)]
    shown += [f"{name}={_text(value)}" for name, value in forward.keywords.items()]
    return f"{_own_name(forward)}({', '.join(shown)})"


class InstanceDoc:
    """A class's `__doc__` for the class, and for an instance what the functions in its fields say of themselves."""

    def __init__(self, of_class: str | None):
        self.of_class = of_class

    def __get__(self, instance: Any, owner: type) -> str | None:
        if instance is None:
            return self.of_class
        functions = {field: getattr(value, "func", value) for field, value in instance._asdict().items()}
        docs = {field: inspect.getdoc(function) for field, function in functions.items() if inspect.isroutine(function)}
        return "\n\n".join(f"{field}: {doc}" for field, doc in docs.items() if doc) or self.of_class


def _own_name(function):
    function = getattr(function, "func", function)
    return getattr(function, "__name__", type(function).__name__).removesuffix("_forward")


def _texts(value):
    # The layers of a chain are bound as one tuple.
    if type(value) is not tuple:
        return [_text(value)]
    left_out = len(value) - FIRST - LAST
    if left_out <= 1:
        return [_text(part) for part in value]
    return [*map(_text, value[:FIRST]), f"... {left_out} more ...", *map(_text, value[-LAST:])]


def _text(value):
    if isinstance(value, np.dtype):
        return str(value)
    if isinstance(value, type) or inspect.isroutine(value):
        return value.__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if "\n" not in text else type(value).__name__
