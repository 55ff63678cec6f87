"""When a gradient is formed: once, before what reads it, where that saves operations and costs no more than it may.

With T positions, norms of pairs of them take 2 T^2 (o + i) operations for an example and a weight (o, i), and the total
after them 2 T o i. Formed, a gradient takes 2 T o i, and its norm and the weighted sum no product any more: see
`worth_forming`. Where T (o + i) >= o i its o i numbers are no more than those of the factors; elsewhere they are paid
from a budget.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Array, Float, PyTree

from jaxnet.factored.form import map_leaves, require_forms
from jaxnet.layer import Layer

BUDGET = 2**26


def formed(dparams: PyTree[Any], budget: int = BUDGET, *, moments: bool = False) -> PyTree[Any]:
    """The same per-example gradients, each formed as an `Each` where that takes fewer operations.

    For norms with a total after them that is where 2 T (o + i) > o i, with T positions at a weight (o, i), and for
    second moments wherever there are positions; never without positions. The readings that gain by it, `clipped_mean`,
    `clipped`, `noise_scale`, `second_moment`, `variance` and `signal_to_noise`, do it themselves. Before several
    readings it has their means and totals, too, from what is formed.

    Args:
      dparams: what `backward` returned.
      budget: how many numbers may be formed where they are more than the factors hold, at least 0: m o i for a weight,
        over all weights together and all devices. A weight that finds no room stays as it is. By default 2^26, 256 MB
        in float32.
      moments: whether second moments are read, besides norms and totals.

    Returns:
      The structure of dparams.

    Example:
      >>> formed = jn.per_example.formed(dparams)
      >>> type(formed[0].W).__name__  # as it is: without positions the factors are cheaper
      'Outer'
    """
    require_forms("per_example.formed", dparams)
    left = budget

    def leaf_formed(leaf):
        nonlocal left
        price = leaf.price(moments)
        # A number of examples that is only a symbol may be any.
        if price is None or (price and not (isinstance(leaf.examples, int) and price * leaf.examples <= left)):
            return leaf
        left -= price and price * leaf.examples
        return leaf.formed()

    return map_leaves(leaf_formed, dparams)


def forming_backward(layer: Layer, params: Any, cache: Any, dy: PyTree[Array]) -> tuple[Any, PyTree[Array]]:
    """The layer's backward, with its gradients formed where that saves operations and takes no further numbers."""
    dparams, dx = layer.backward(params, cache, dy)
    return formed(dparams, budget=0), dx


def forming(layer: Layer) -> Layer:
    """A leaf of a network, see `at_leaves`, that forms its gradients where they arise: inside the scan of `repeat`."""
    return layer._replace(backward=partial(forming_backward, layer))


@dataclass(frozen=True)
class Reading:
    """A `read` of `value_and_grad` that says how the network's leaves hand on what it reads.

    Attributes:
      read: `(dparams, weights) -> grads`.
      leaf: the change of every leaf, see `at_leaves`, under which the backward pass is made.

    Example:
      >>> reading = jn.per_example.Reading(jn.per_example.total)
      >>> J, grads = jn.value_and_grad(net, loss, read=reading)(params, x, y)
      >>> jax.tree.map(jnp.shape, grads[0])
      Dense(W=(4, 3), b=(4,))
    """

    read: Callable[[Any, Float[Array, " m"] | None], Any]
    leaf: Callable[[Layer], Layer] = forming

    def __call__(self, dparams: Any, weights: Float[Array, " m"] | None) -> Any:
        return self.read(dparams, weights)
