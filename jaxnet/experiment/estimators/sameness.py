"""Which networks are the same function of their parameters, though they were made at different times."""

from functools import partial
from typing import Any


def by_value(part: Any) -> Any:
    """What two layers have in common if and only if they were made of the same functions and the same arguments.

    Functions are the same that are one object, as those of a module always are; what a builder defines inside itself,
    such as a lambda, is another one each time.

    Args:
      part: a layer, or whatever is bound to one of its functions.

    Returns:
      Something to compare and to hash; it raises a TypeError where an argument, such as an array, has no hash.
    """
    if isinstance(part, partial):
        named = sorted(part.keywords.items())
        return partial, part.func, by_value(part.args), tuple((name, by_value(value)) for name, value in named)
    if isinstance(part, (tuple, list)):
        return type(part), *map(by_value, part)
    hash(part)
    # 1 and 1.0 and True are equal, and not the same.
    return type(part), part
