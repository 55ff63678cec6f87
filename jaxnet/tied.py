"""Layers that share their parameters: at both ends of a network, or several times over in a chain.

The gradients of each use are added example by example, in factored form: g_i = g_i' + g_i''. Where the forms
are alike, a further use is a further position; a `per_example.Sum` holds those that are not, such as the rows that an
embedding looked up and the outer products of the head. Norms of it take pairs of the two, and nothing formed.
"""

from functools import partial
from typing import Any, SupportsIndex

import jax
from jaxtyping import Array, PyTree

from jaxnet import per_example
from jaxnet.arguments import instance_of, positive_integer
from jaxnet.layer import Layer, bind, draws


def tied_init(first, body, last, key):
    shared_key, body_key = jax.random.split(key)
    return first.init(shared_key), body.init(body_key)


def tied_forward(
    first: Layer, body: Layer, last: Layer, params: tuple[Any, Any], x: PyTree[Array]
) -> tuple[PyTree[Array], tuple[Any, Any, Any]]:
    """y = last(p, body(q, first(p, x))) for parameters (p, q). The cache is the layers' caches, in order."""
    shared, of_body = _checked(params)
    a, first_cache = first.forward(shared, x)
    z, body_cache = body.forward(of_body, a)
    y, last_cache = last.forward(shared, z)
    return y, (first_cache, body_cache, last_cache)


def tied_backward(
    first: Layer, body: Layer, last: Layer, params: tuple[Any, Any], caches: tuple[Any, Any, Any], dy: PyTree[Array]
) -> tuple[tuple[Any, Any], PyTree[Array]]:
    """The chain rule, from the last layer to the first; dp is what both uses of p give."""
    shared, of_body = _checked(params)
    first_cache, body_cache, last_cache = caches
    at_last, dz = last.backward(shared, last_cache, dy)
    of_body, da = body.backward(of_body, body_cache, dz)
    at_first, dx = first.backward(shared, first_cache, da)
    return (per_example.add(at_first, at_last), of_body), dx


def tied(first: Layer, body: Layer, last: Layer) -> Layer:
    """A network whose first and last layer have the same parameters: y = last(p, body(q, first(p, x))).

    Such as `tied(embedding(v, d), body, unembedding(v, d))`: with T positions the norms of the table's gradients take
    O(T^2 d) for an example beside those of each use, and never (v, d) numbers.

    Args:
      first, last: layers that take parameters of the same structure and shapes; those of `first` start them.
      body: what is between.

    Returns:
      A layer with parameters (p, q): the shared ones, then the body's. All readings of `per_example` and all of
      `curvature` are those of the parameters as they are, used twice, but two, which are refused:
      `curvature.hessian_diagonal` and `curvature.kfra`.

    Raises:
      ValueError: when something is no layer; when traced, by `last`, if it takes other parameters than `first`.

    Source: Press and Wolf, Using the output embedding to improve language models, 2017.

    Example:
      >>> net = jn.tied(jn.embedding(10, 4), jn.tanh, jn.unembedding(10, 4))
      >>> params = net.init(key)
      >>> params[0].W.shape, net(params, jnp.array([[3, 7]])).shape
      ((10, 4), (1, 2, 10))
    """
    for what, layer in (("first", first), ("body", body), ("last", last)):
        instance_of(Layer, "tied", f"{what} to be a Layer", layer, "jaxnet.dense(4, 4)")
    layers = first, body, last
    functions = partial(tied_init, *layers), partial(tied_forward, *layers), partial(tied_backward, *layers)
    return Layer(*functions, made=partial(tied, *layers))


def shared_forward(
    layer: Layer, n: int, params: Any, x: PyTree[Array], *, key: jax.Array | None = None
) -> tuple[PyTree[Array], tuple[Any, ...]]:
    """y = x_n with x_k = f(params, x_k-1). The cache: one for each use."""
    caches = []
    for use in _uses(layer, n, key):
        x, cache = use.forward(params, x)
        caches.append(cache)
    return x, tuple(caches)


def shared_backward(
    layer: Layer, n: int, params: Any, caches: tuple[Any, ...], dy: PyTree[Array], *, key: jax.Array | None = None
) -> tuple[Any, PyTree[Array]]:
    """dx_k-1 from dx_k, last to first, starting with dx_n = dy; dparams is what all uses give."""
    *earlier, last = zip(_uses(layer, n, key), caches, strict=True)
    dparams, dx = last[0].backward(params, last[1], dy)
    for use, cache in reversed(earlier):
        of_use, dx = use.backward(params, cache, dx)
        dparams = per_example.add(of_use, dparams)
    return dparams, dx


def shared(layer: Layer, n: SupportsIndex, *, key: jax.Array | None = None) -> Layer:
    """A layer n times over, with the same parameters each time: y = f(p, ... f(p, x)).

    As `chain(f, ..., f)` with one set of parameters, where `repeat` has n. What is between two uses is part of the
    layer: `shared(chain(dense(d, d), tanh), n)`. The program grows with n.

    Args:
      layer: f, whose output has its input's shape.
      n: how often, at least 1.
      key: of what f draws, each time by a key of its own; `jaxnet.bind` gives it.

    Returns:
      A layer whose parameters are those of f. What can be read is as for `tied`.

    Raises:
      ValueError: when f is no layer or n not a positive integer.

    Source: Lan et al., ALBERT: a lite BERT for self-supervised learning of language representations, 2020.

    Example:
      >>> net = jn.shared(jn.chain(jn.dense(3, 3), jn.tanh), 4)
      >>> params = net.init(key)
      >>> params[0].W.shape, net(params, jnp.ones((5, 3))).shape
      ((3, 3), (5, 3))
    """
    instance_of(Layer, "shared", "layer to be a Layer", layer, "jaxnet.dense(4, 4)")
    n = positive_integer("shared", "n", n)
    bound: dict[str, Any] = {} if key is None else {"key": key}
    return Layer(
        layer.init,
        partial(shared_forward, layer, n, **bound),
        partial(shared_backward, layer, n, **bound),
        keyed=partial(_shared_keyed, layer, n) if draws(layer) else None,
        made=partial(shared, layer, n=n, **bound),
    )


def _shared_keyed(layer, n, key):
    return shared(layer, n, key=key)


def _uses(layer, n, key):
    return [layer] * n if key is None else [bind(layer, of_use) for of_use in jax.random.split(key, n)]


def _checked(params):
    # A layer's own parameters may be a named tuple, by chance of the right length.
    if type(params) is not tuple or len(params) != 2:
        got = f"{len(params)}" if type(params) is tuple else f"a {type(params).__name__}"
        raise ValueError(f"tied: expected the pair of parameters (shared, body's), got {got}")
    return params
