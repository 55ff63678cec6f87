"""The same kind of layer n times over, each with parameters of its own: compiled once, whatever n is.

The parameters are stacked along a leading axis. Forward is a `lax.scan` over them, backward the same scan in reverse:

    x_0 = x,  x_k = f(params_k, x_k-1),  y = x_n
    dx_n = dy,  (dparams_k, dx_k-1) = backward(params_k, cache_k, dx_k),  dx = dx_0

so that neither the program nor the time to compile it grows with the depth, as a chain's do.
"""

from functools import partial
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from jaxnet.arguments import instance_of, positive_integer
from jaxnet.factored import Factored, Stacked, map_leaves
from jaxnet.kept_once import in_full, once_each
from jaxnet.layer import Layer, bind, draws
from jaxnet.standardised import laid_out


def repeat_init(layer, n, key):
    return jax.vmap(layer.init)(jax.random.split(key, n))


def repeat_forward(
    layer: Layer, n: int, params: Any, x: PyTree[Array], *, key: jax.Array | None = None
) -> tuple[PyTree[Array], tuple[Any, Any]]:
    """y = x_n with x_k = f(params_k, x_k-1). The cache: the parameters, by reference, and all layers' caches.

    An array that a layer keeps at several places, as three products of one input do, is stacked once.
    """

    def step(x, at_k):
        params, key = at_k
        y, cache = _bound(layer, key).forward(params, x)
        if _shown(y) != _shown(x):
            raise ValueError(
                f"repeat: expected {layer.name} to keep the shape and dtype of x, {_shown(x)}, got {_shown(y)}"
            )
        return _laid_out_as(x, y), once_each(cache, params)

    _check_params(layer, n, params)
    y, caches = lax.scan(step, jax.tree.map(jnp.asarray, x), (params, _keys(key, n)), length=n)
    return y, (params, caches)


def repeat_backward(
    layer: Layer, n: int, params: Any, cache: tuple[Any, Any], dy: PyTree[Array], *, key: jax.Array | None = None
) -> tuple[Any, PyTree[Array]]:
    """dx_k-1 from dx_k, last to first, starting with dx_n = dy."""

    def step(dy, at_k):
        params, key, params_of_forward, cache = at_k
        dparams, dx = _bound(layer, key).backward(params, in_full(cache, params_of_forward), dy)
        return _laid_out_as(dy, dx), dparams

    of_all = params, _keys(key, n), *cache
    if _keeps_its_structure(step, dy, of_all):
        dx, dparams = lax.scan(step, dy, of_all, reverse=True, length=n)
    else:
        dx, dparams = _one_by_one(step, dy, of_all, n)
    return map_leaves(lambda leaf: Stacked(leaf) if isinstance(leaf, Factored) else leaf, dparams), dx


def repeat(layer: Layer, n: SupportsIndex, *, key: jax.Array | None = None) -> Layer:
    """A layer n times over, with parameters of its own each time: y = f(params_n, ... f(params_1, x)).

    As `chain(layer, ..., layer)`, but compiled once: the parameters of all n are stacked, and a scan goes through them.
    Every reading of per-example gradients and every curvature is there, for the stacked parameters.

    Args:
      layer: f, whose output has its input's shape.
      n: how often, at least 1.
      key: of what f draws, each time by a key of its own; `jaxnet.bind` gives it.

    Returns:
      A layer whose parameters are those of f with a leading axis of n: `params[0].W (n, o, i)` for a chain that begins
      with `dense`.

    Raises:
      ValueError: when f is no layer or n not a positive integer; when traced, if f changes the shape, or the parameters
        are not n.

    Example:
      >>> net = jn.repeat(jn.residual(jn.chain(jn.dense(3, 3), jn.tanh)), 8)
      >>> params = net.init(key)
      >>> params[0].W.shape, net(params, jnp.ones((5, 3))).shape
      ((8, 3, 3), (5, 3))
    """
    instance_of(Layer, "repeat", "layer to be a Layer", layer, "jaxnet.dense(4, 4)")
    n = positive_integer("repeat", "n", n)
    bound: dict[str, Any] = {} if key is None else {"key": key}
    return Layer(
        partial(repeat_init, layer, n),
        partial(repeat_forward, layer, n, **bound),
        partial(repeat_backward, layer, n, **bound),
        keyed=partial(_repeat_keyed, layer, n) if draws(layer) else None,
        made=partial(repeat, layer, n=n, **bound),
    )


def _repeat_keyed(layer, n, key):
    return repeat(layer, n, key=key)


def _keys(key, n):
    return None if key is None else jax.random.split(key, n)


def _bound(layer, key):
    return layer if key is None else bind(layer, key)


def _shown(signal):
    """What messages call it: '(5, 4) float32'."""
    shapes = jax.tree.map(lambda leaf: f"{jnp.shape(leaf)} {jnp.result_type(leaf)}", signal)
    return shapes if isinstance(shapes, str) else str(shapes).replace("'", "")


def _keeps_its_structure(step, dy, of_all):
    """Whether what goes back is of the same structure and shapes behind a layer as before it, as a scan needs it."""
    dx = jax.eval_shape(lambda dy, of_all: step(dy, _at(of_all, 0))[0], dy, of_all)
    before: Any = jax.tree.structure(dy)
    return before == jax.tree.structure(dx) and list(map(jnp.shape, jax.tree.leaves(dy))) == [
        leaf.shape for leaf in jax.tree.leaves(dx)
    ]


def _laid_out_as(before, after):
    """What is behind a layer, laid out as what is before it: over an explicit mesh a scan carries one layout."""
    structure: Any = jax.tree.structure(before)
    if structure != jax.tree.structure(after):
        return after
    return jax.tree.map(lambda one, other: laid_out(other, jax.typeof(one).sharding), before, after)


def _one_by_one(step, dy, of_all, n):
    """What a reverse scan gives, of a signal that grows on its way."""
    dparams = []
    for k in reversed(range(n)):
        dy, of_layer = step(dy, _at(of_all, k))
        dparams.append(of_layer)
    return dy, jax.tree.map(lambda *leaves: jnp.stack(leaves), *reversed(dparams))


def _at(tree, k):
    return jax.tree.map(lambda leaf: leaf[k], tree)


def _check_params(layer, n, params):
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if leaf.shape[:1] != (n,):
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"repeat: expected parameters of {layer.name} stacked {n} times, got {name} of shape {leaf.shape}"
            )
