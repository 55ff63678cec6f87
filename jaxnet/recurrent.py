"""A cell of one's own over time, with the same parameters at all times.

    s_0 = start(x),  (y_t, s_t) = cell(p, (x_t, s_t-1)),  y = (y_1, ..., y_T)

and back, last time first, from ds_T = 0 on:

    (dp_t, (dx_t, ds_t-1)) = the cell's backward of (dy_t, ds_t),  dp = sum_t dp_t

The sum over times is one of factored gradients, example by example: where the form allows it, a time is a further
position, and nothing is added up before it is read. The scan keeps the cell's cache of each time.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxnet.arguments import instance_of
from jaxnet.factored import map_leaves
from jaxnet.factored.layouts import rows_of
from jaxnet.kept_once import in_full, once_each
from jaxnet.layer import Layer, added
from jaxnet.over_time import ahead, alive_in, apart, back, time_first, where_alive
from jaxnet.standardised import laid_out


def recurrent_init(cell, start, key):
    cell_key, start_key = jax.random.split(key)
    return cell.init(cell_key), start.init(start_key)


def recurrent_forward(
    cell: Layer, start: Layer, params: tuple[Any, Any], x: PyTree[Any], *, last: bool = False
) -> tuple[Any, Any]:
    """(y_t, s_t) = cell(x_t, s_t-1) from s_0 = start(x). The cache: the cell's parameters, by reference, and caches."""
    of_cell, of_start = _checked(params)
    x, lengths = apart(x)
    alive = alive_in(jax.tree.leaves(x)[0], lengths)
    xs = where_alive(alive, time_first(x))
    x = time_first(xs)
    state, start_cache = start.forward(of_start, x)
    state = _by_rows(state, x)
    # An output is held as the state is, where there is an end before the last time.
    holds = last or alive is not None

    def step(carry, x_t):
        state, _ = carry
        y, new, cache = _forward(cell, of_cell, x_t, state, x)
        # An output that the cell keeps, such as that of tanh, is stacked once.
        return (new, y if holds else ()), once_each((cache, () if holds else y), of_cell)

    def output(x_t, state):
        return _forward(cell, of_cell, x_t, state, x)[0]

    first = _nothing_yet(output, x, xs, state) if holds else ()
    (_, end), held, kept = ahead(step, (state, first), xs, alive, lambda carry: () if last else carry[1])
    caches, (_, ys) = kept[0], in_full(kept, of_cell)
    y = end if last else time_first(held if holds else ys)
    return (y if last or lengths is None else (y, lengths)), (of_cell, caches, start_cache, state, alive)


def recurrent_backward(
    cell: Layer, start: Layer, params: tuple[Any, Any], cache: Any, dy: PyTree[Any], *, last: bool = False
) -> tuple[tuple[Any, Any], PyTree[Any]]:
    """ds_t-1 and dx_t from ds_t and dy_t, last time first; dp is what all times give."""
    of_cell, of_start = _checked(params)
    params_of_forward, caches, start_cache, state, alive = cache
    dy = dy[0] if alive is not None and not last else dy
    _refuse_other_signals(dy)
    dy = _by_rows(dy, dy)
    holds = last or alive is not None

    def step(dcarry, at_t):
        dstate, dheld = dcarry
        dy_t, kept = at_t
        signal = dheld if holds else dy_t, dstate
        dparams, (dx, dbefore) = cell.backward(of_cell, in_full(kept, params_of_forward), signal)
        # What the cell keeps anyway, such as its inputs, is not stacked once more.
        return (_like(dbefore, dstate), jax.tree.map(jnp.zeros_like, dheld)), (once_each(dparams, kept), dx)

    dstate = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if _is_floating(leaf) else None, state)
    dys = None if last else time_first(dy)
    dheld = dy if last else jax.tree.map(lambda leaf: jnp.zeros_like(leaf[:, 0]), dy) if holds else ()
    of_held = (None, dys) if holds and not last else None
    (dstate, _), (dparams, dx) = back(step, (dstate, dheld), of_held, (None if holds else dys, caches), alive)
    dparams = map_leaves(_over_uses, in_full(dparams, caches))
    of_start, dx_of_start = start.backward(of_start, start_cache, dstate)
    dx = added(time_first(dx), dx_of_start)
    return (dparams, of_start), dx if alive is None else (dx, None)


def recurrent(cell: Layer, start: Layer, *, last: bool = False) -> Layer:
    """A cell over time: (y_t, s_t) = cell((x_t, s_t-1)) from s_0 = start(x), with the same parameters at all times.

    A cell is a layer from a tuple (x_t, state) to a tuple (y_t, state): written by hand, or made of others, such as
    `chain(concatenate, dense(i + h, h), tanh, branches(identity, identity))`, whose output is its state. What it draws,
    such as a mask of dropout, it draws once for all times. `rnn`, `gru` and `lstm` have scans of their own, which keep
    less and take one product for all times.

    Args:
      cell: of x_t (m, ...), or a pytree of such arrays, which may be token ids; a state keeps its shape and type.
      start: a layer from x to s_0, such as `initial_state(h)`; `branches` of several makes a tuple.
      last: whether y is that of the last time alone, y_T.

    Returns:
      A layer from x (m, t, ...), or a pytree of such arrays, to y (m, t, ...), with parameters (cell's, start's). With
      a tuple (x, lengths) an example's state and output are held from its length (m,) on, whole numbers from 0 to t,
      whatever x is there; y is then a tuple (y, lengths), or y at each example's length, 0 where that is 0. What can be
      read is as for `tied`.

    Raises:
      ValueError: when something is no layer; when traced, if the cell does not give a tuple (y_t, state), or changes
        the state's shape or type; by `curvature.hessian_diagonal`, `curvature.kfra` and `feedback.direct`, whose
        signals have no times.

    Source: Werbos, Backpropagation through time, 1990; masks for all times: Gal and Ghahramani, A theoretically
    grounded application of dropout in recurrent neural networks, 2016.

    Example:
      >>> cell = jn.chain(jn.concatenate, jn.dense(3 + 4, 4), jn.tanh, jn.branches(jn.identity, jn.identity))
      >>> layer = jn.recurrent(cell, jn.initial_state(4))
      >>> layer(layer.init(key), jnp.ones((2, 5, 3))).shape
      (2, 5, 4)
    """
    for what, layer in (("cell", cell), ("start", start)):
        instance_of(Layer, "recurrent", f"{what} to be a Layer", layer, "jaxnet.initial_state(4)")
    options: dict[str, Any] = {"last": True} if last else {}
    forward = partial(recurrent_forward, cell, start, **options)
    backward = partial(recurrent_backward, cell, start, **options)
    made = partial(recurrent, cell, start, **options)
    return Layer(partial(recurrent_init, cell, start), forward, backward, made=made)


# Whoever reads gradients where they arise reads those of all times at once.
recurrent.adds_uses = True  # type: ignore[attr-defined]


def _forward(cell, params, x_t, state, x):
    """(y_t, s_t, cache), laid out over devices by examples alone, as the scan needs it."""
    result, cache = cell.forward(params, (x_t, state))
    if not isinstance(result, tuple) or len(result) != 2:
        got = f"a tuple of {len(result)}" if isinstance(result, tuple) else f"{_shown(result)}"
        raise ValueError(f"recurrent: expected {cell.name} to give a tuple of y_t and a state, got {got}")
    y, new = result
    if _shown(new) != _shown(state):
        raise ValueError(f"recurrent: expected {cell.name} to keep the state {_shown(state)}, got {_shown(new)}")
    return _by_rows(y, x), _by_rows(new, x), cache


def _nothing_yet(output, x, xs, state):
    """Zeros in y_t's place."""
    at_first = jax.tree.map(lambda leaf: leaf[0] if len(leaf) else jnp.zeros(leaf.shape[1:], leaf.dtype), xs)
    y = jax.eval_shape(output, at_first, state)
    first = jax.tree.leaves(x)[0]
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype, out_sharding=rows_of(first, leaf.ndim)), y)


def _by_rows(tree, x):
    first = jax.tree.leaves(x)[0]
    return jax.tree.map(lambda leaf: laid_out(leaf, rows_of(first, leaf.ndim)), tree)


def _like(tree, other):
    return jax.tree.map(lambda leaf, like: laid_out(leaf, jax.typeof(like).sharding), tree, other)


def _over_uses(leaf):
    if isinstance(leaf, jax.Array):
        return leaf.sum(0)
    # Notes of a cell's layers keep their rounds.
    return leaf.over_uses() if hasattr(leaf, "over_uses") else leaf


def _is_floating(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _shown(tree):
    shapes = jax.tree.map(lambda leaf: f"{jnp.shape(leaf)} {jnp.result_type(leaf)}", tree)
    return shapes if isinstance(shapes, str) else str(shapes).replace("'", "")


def _refuse_other_signals(dy):
    """What stands in a cotangent's place has no times that could be taken apart."""
    for part in jax.tree.leaves(
        dy, is_leaf=lambda part: hasattr(part, "__add__") and not isinstance(part, tuple | list)
    ):
        if not hasattr(part, "dtype"):
            asked = getattr(part, "asked_by", type(part).__name__)
            raise ValueError(
                f"{asked}: expected layers whose signals need not be taken apart by time, got recurrent; "
                f"use {getattr(part, 'instead', 'the gradient')}"
            )


def _checked(params):
    # A layer's own parameters may be a named tuple, by chance of the right length.
    if type(params) is not tuple or len(params) != 2:
        got = f"{len(params)}" if type(params) is tuple else f"a {type(params).__name__}"
        raise ValueError(f"recurrent: expected the pair of parameters (cell's, start's), got {got}")
    return params
