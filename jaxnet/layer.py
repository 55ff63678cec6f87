"""The contract that every layer, and every network, keeps."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import jax
from jaxtyping import Array, PyTree

from jaxnet.description import InstanceDoc, call_of, name_of

Params: TypeAlias = PyTree[Any]
Cache: TypeAlias = PyTree[Any]


class Layer(NamedTuple):
    """Pure functions: how parameters start, the forward pass, and the backward pass derived by hand.

    A network is a layer too, so combinators such as `chain` nest. The first axis of every array that flows
    through a layer is the example; the axes between it and the last one are positions (time, pixels), if any.
    Printed, a layer shows how it was made, `chain(dense(3, 4), tanh)`, and `help` tells the equations. With functions
    of a module it can be pickled.

    Attributes:
      init: `(key) -> params`, a pytree of arrays; `()` where there is nothing to learn.
      forward: `(params, x) -> (y, cache)`. The cache is what backward will need, and nothing else.
      backward: `(params, cache, dy) -> (dparams, dx)`, in the order of `jax.vjp(f, params, x)`. `dy` is the
        cotangent of `y`, per example and without 1/m. `dparams` has the structure of `params`, each leaf replaced
        by the per-example gradients in factored form (`per_example.Outer` or `per_example.Each`). The params
        need not be those of the forward pass: sending `dy` through others is feedback alignment.
      second: `(params, cache, dy) -> r`, of x's shape, or None for a layer that is linear in x: how backward itself
        changes with x, the diagonal of sum_k dy_k d2y_k / dx2, dy * g''(x) for an activation g. Only
        `curvature.hessian_diagonal` asks for it. A layer may have it whose y is linear in params, and for which that
        matrix is diagonal; leave it out of others, and of combinators.
      kind: what dy/dx is: "linear" for one matrix, the same for all examples and positions; "elementwise" for a
        diagonal; None for anything else.
      keyed: `(key) -> Layer`, the same layer with what it draws, such as dropout's mask, drawn by that key; None for a
        layer that draws nothing. See `bind`.
      made: `partial(combinator, *layers, **options)`: how this layer was made of others; None for a layer that is made
        of no others. `made()` makes it again. See `at_leaves`.
    """

    init: Callable[[jax.Array], Params]
    forward: Callable[[Params, Array], tuple[Array, Cache]]
    backward: Callable[[Params, Cache, Array], tuple[PyTree[Any], Array]]
    second: Callable[[Params, Cache, Array], Array | None] | None = None
    kind: Literal["linear", "elementwise"] | None = None
    keyed: "Callable[[jax.Array], Layer] | None" = None
    made: "partial[Layer] | None" = None

    def apply(self, params: Params, x: Array) -> Array:
        """The output alone: `forward` without its cache, for JAX to differentiate in any mode."""
        y, _ = self.forward(params, x)
        return y

    @property
    def name(self) -> str:
        """What messages call this layer: 'dense' where forward is `dense_forward`."""
        return name_of(self.forward)

    def __call__(self, params: Params, x: Array) -> Array:
        """`net(params, x)` is `net.apply(params, x)`. Give `jax.jit` the latter: it takes no tuple for a function."""
        return self.apply(params, x)

    def __repr__(self) -> str:
        return call_of(self.forward)


Layer.__doc__ = cast(Any, InstanceDoc(Layer.__doc__))


def at_leaves(change: Callable[[Layer], Layer], net: Layer) -> Layer:
    """The same network with every layer that is made of no others changed."""
    if net.made is None:
        return change(net)
    return net.made.func(*(at_leaves(change, part) for part in net.made.args), **net.made.keywords)
