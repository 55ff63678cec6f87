"""How forms go through JAX's transformations: as pytrees, put together again without a second look.

What is put there need not be what the form was made of: what a scan returns has a further axis in front, and
`jax.eval_shape` puts shapes there. So the dataclass's own checks, and what it sums when it is made, are for its maker.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.tree_util import GetAttrKey

F = TypeVar("F")


def registered(arrays: tuple[str, ...], metadata: tuple[str, ...] = ()) -> Callable[[type[F]], type[F]]:
    """Makes a pytree of a dataclass: its arrays are leaves, its metadata part of the structure."""

    def register(cls):
        def flatten_with_keys(form):
            fields = tuple((GetAttrKey(name), getattr(form, name)) for name in arrays)
            return fields, tuple(getattr(form, name) for name in metadata)

        def unflatten(values, children):
            return _made(cls, dict(zip((*arrays, *metadata), (*children, *values), strict=True)))

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
        return cls

    return register


def remade(form: F, **fields: Any) -> F:
    """The same form with other members, put together unchecked and as they are."""
    return _made(type(form), vars(form) | fields)


def _made(cls, fields):
    form = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(form, name, value)
    return form
