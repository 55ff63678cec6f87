"""The contract that every layer, and every network, keeps."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import jax
from jaxtyping import Array, PyTree

from jaxnet.bend import Bend
from jaxnet.description import InstanceDoc, call_of, name_of

Params: TypeAlias = PyTree[Any]
Cache: TypeAlias = PyTree[Any]


class Decoder(NamedTuple):
    """A layer, or a network, that goes on from what it has seen: see `decoding`.

    Attributes:
      start: `(params, x) -> state`, before any position; of x (m, t, ...) its shapes count, with any t.
      step: `(params, state, x) -> (y, state)`, for the t positions of x that come next: y as of all so far at once.
      room: for how many positions in all; None where they may go on for ever.
    """

    start: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    room: int | None = None


class _Fields(NamedTuple):
    """The fields of a `Layer`, which tells what they are."""

    init: Callable[[jax.Array], Params]
    forward: Callable[[Params, PyTree[Array]], tuple[PyTree[Array], Cache]]
    backward: Callable[[Params, Cache, PyTree[Array]], tuple[PyTree[Any], PyTree[Array]]]
    second: Callable[[Params, Cache, PyTree[Array]], PyTree[Array] | Bend | None] | None = None
    kind: Literal["linear", "elementwise"] | None = None
    keyed: "Callable[[jax.Array], Layer] | None" = None
    made: "partial[Layer] | None" = None
    decoder: Callable[[int], Decoder] | Literal["positionwise"] | None = None


class Layer(_Fields):
    """Pure functions: how parameters start, the forward pass, and the backward pass derived by hand.

    A network is a layer too, so combinators such as `chain` nest. What flows through a layer, x and y, is an array or
    a pytree of arrays, such as a tuple. The first axis of each is the example; the axes between it and the last one are
    positions (time, pixels), if any.
    Printed, a layer shows how it was made, `chain(dense(3, 4), tanh)`, and `help` tells the equations. With functions
    of a module it can be pickled.

    Attributes:
      init: `(key) -> params`, a pytree of arrays; `()` where there is nothing to learn.
      forward: `(params, x) -> (y, cache)`. The cache is what backward will need, and nothing else.
      backward: `(params, cache, dy) -> (dparams, dx)`, in the order of `jax.vjp(f, params, x)`. `dy` is the
        cotangent of `y`, per example and without 1/m. `dparams` has the structure of `params`, each leaf replaced
        by the per-example gradients in factored form (`per_example.Outer` or `per_example.Each`). `dx` has the
        structure of x, with None in the place of integers, such as token ids. The params need not be those of the
        forward pass: sending `dy` through others is feedback alignment.
      second: `(params, cache, dy) -> r`, of x's shape, or None for a layer that is linear in x: how backward itself
        changes with x, the diagonal of sum_k dy_k d2y_k / dx2, dy * g''(x) for an activation g; or a `Bend`, columns
        with weights, where that matrix is no diagonal. Only `curvature.hessian_diagonal` asks for it. A layer may have
        it whose y is linear in params; leave it out of others, and of combinators.
      kind: what dy/dx is: "linear" for one matrix, the same for all examples and positions; "elementwise" for a
        diagonal; None for anything else.
      keyed: `(key) -> Layer`, the same layer with what it draws, such as dropout's mask, drawn by that key; None for a
        layer that draws nothing, and for combinators whose layers each draw once. See `bind`.
      made: `partial(combinator, *layers, **options)`: how this layer was made of others; None for a layer that is made
        of no others. `made()` makes it again. See `at_leaves`.
      decoder: `(length) -> Decoder`, how the layer goes on position by position, where there is room for so many;
        "positionwise" for a layer that sees each position by itself, as one with a `kind` is taken to do where this is
        None. Leave it out of combinators, and where later positions count. See `decoding`.

    Example:
      >>> twice = jn.Layer(lambda key: (), lambda params, x: (2 * x, ()), lambda params, cache, dy: (params, 2 * dy))
      >>> net = jn.chain(jn.dense(3, 4), twice)
      >>> net(net.init(key), jnp.ones((5, 3))).shape
      (5, 4)
    """

    __slots__ = ()

    def apply(self, params: Params, x: PyTree[Array]) -> PyTree[Array]:
        """The output alone: `forward` without its cache, for JAX to differentiate in any mode."""
        y, _ = self.forward(params, x)
        return y

    @property
    def name(self) -> str:
        """What messages call this layer: 'dense' where forward is `dense_forward`."""
        return name_of(self.forward)

    def __call__(self, params: Params, x: PyTree[Array]) -> PyTree[Array]:
        """`net(params, x)` is `net.apply(params, x)`. Give `jax.jit` the latter: it takes no tuple for a function."""
        return self.apply(params, x)

    def _replace(self, **changes: Any) -> "Layer":
        """The layer with other fields; with another function it is no more what it was `made` as.

        Nor, with another forward, does it go on as before: `decoder` is to be given anew.
        """
        gone: dict[str, Any] = {}
        if {"init", "forward", "backward", "second"} & changes.keys():
            gone["made"] = None
        if "forward" in changes:
            gone["decoder"] = None
        return super()._replace(**gone | changes)

    def __repr__(self) -> str:
        return call_of(self.forward)


Layer.__doc__ = cast(Any, InstanceDoc(Layer.__doc__))


def at_leaves(change: Callable[[Layer], Layer], net: Layer) -> Layer:
    """The same network with every layer that is made of no others changed.

    Every walk through a network is such a change: a backward that reads its total, one that takes a signal of another
    kind, a forward that notes what it sees. It reaches what is inside any combinator that says how it was `made`.

    Args:
      change: from a layer that is made of no others to the one in its place, with parameters of the same structure.
      net: any layer or network.

    Returns:
      The network made again of the changed layers. What they draw is drawn as before: the change goes on to what
      `bind` makes of them.

    Example:
      >>> net = jn.residual(jn.chain(jn.dense(3, 3), jn.relu))
      >>> jn.at_leaves(lambda layer: jn.tanh if layer.name == "relu" else layer, net)
      residual(chain(dense(3, 3), tanh))
    """
    if net.made is not None:
        return net.made.func(*(at_leaves(change, part) for part in net.made.args), **net.made.keywords)
    changed = change(net)
    return changed if net.keyed is None else changed._replace(keyed=partial(_changed_when_bound, change, net))


def bind(net: Layer, key: jax.Array) -> Layer:
    """The same network with all that it draws, such as dropout's masks, drawn by a key.

    Unbound, a layer that draws leaves its input as it is, as after training. Bound, forward and backward draw the same:
    `value_and_grad(bind(net, key), loss)`, with another key for every step, inside `jax.jit` too.

    Args:
      net: any layer or network.
      key: of the draws. Every layer has its own, folded in by its position; `repeat` has one for each of its layers.

    Returns:
      A network with the same parameters; the net itself, where it draws nothing. Bound again, it draws by the new key.

    Example:
      >>> net = jn.chain(jn.dense(3, 3), jn.dropout(0.5))
      >>> params, x = net.init(key), jnp.ones((1, 3))
      >>> bool((net(params, x) == jn.bind(net, key)(params, x)).all())
      False
    """
    if net.keyed is not None:
        return net.keyed(key)._replace(keyed=net.keyed)
    if not draws(net):
        return net
    assert net.made is not None
    parts = (bind(part, jax.random.fold_in(key, position)) for position, part in enumerate(net.made.args))
    return net.made.func(*parts, **net.made.keywords)


def draws(net: Layer) -> bool:
    """Whether there is something in a network for `bind` to draw."""
    return net.keyed is not None or (net.made is not None and any(map(draws, net.made.args)))


def added(signal: PyTree[Any], other: PyTree[Any]) -> PyTree[Any]:
    """What comes back where two paths meet: the sum, part by part; None where the input has no derivative.

    A signal is an array, or whatever stands in its place and has `+`, or a tuple or other pytree of them.
    """

    def is_part(part):
        return part is None or (hasattr(part, "__add__") and not isinstance(part, (tuple, list)))

    def sum_of(part, other):
        return None if part is None or other is None else part + other

    return jax.tree.map(sum_of, signal, other, is_leaf=is_part)


def _changed_when_bound(change, net, key):
    return at_leaves(change, net.keyed(key))
