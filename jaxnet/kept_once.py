"""What a scan need not stack again: an array that is there already stands in what it returns as a reference."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["position", "depth"])
@dataclass(frozen=True)
class Reference:
    """Stands for an array that is known, or that is in the tree before it.

    Attributes:
      position: among those.
      depth: how many scans further in it was put here.
    """

    position: int
    depth: int = 0


def once_each(tree: Any, known: Any) -> Any:
    """The tree with a reference for each array that is known, and for each that is in the tree before."""
    arrays = jax.tree.leaves(known)

    def kept(leaf):
        if isinstance(leaf, Reference):
            return Reference(leaf.position, leaf.depth + 1)
        position = next((position for position, other in enumerate(arrays) if other is leaf), None)
        if position is not None:
            return Reference(position)
        arrays.append(leaf)
        return leaf

    return jax.tree.map(kept, tree, is_leaf=_is_reference)


def in_full(tree: Any, known: Any) -> Any:
    """The tree that `once_each` was given: of one round, or of all with what is known stacked as well."""
    arrays = jax.tree.leaves(known)

    def restored(leaf):
        if isinstance(leaf, Reference):
            return arrays[leaf.position] if leaf.depth == 0 else Reference(leaf.position, leaf.depth - 1)
        arrays.append(leaf)
        return leaf

    return jax.tree.map(restored, tree, is_leaf=_is_reference)


def _is_reference(leaf):
    return isinstance(leaf, Reference)
