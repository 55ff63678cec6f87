"""What a layer's functions return, before any value is looked at: the commonest mistakes, each by its name."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.factored import Each, Factored, Outer
from jaxnet.layer import Layer
from jaxnet.testing.closeness import is_floating, kind_of, path_name
from jaxnet.testing.points import examples_of
from jaxnet.testing.rule import first_line

# Far above what rounding in another place makes of an example's output, and below what a statistic over a batch does.
DEPENDENCE = 1e-9


def start(name: str, layer: Layer, key: jax.Array) -> Any:
    """The layer's parameters."""
    try:
        return layer.init(key)
    except TypeError as error:
        raise AssertionError(f"{name}: init(key) raised {first_line(error)}; init is (key) -> params") from error


def check_contract(name: str, layer: Layer, apply: Callable[..., Any], params: Any, x: Any) -> None:
    """Asserts that forward gives (y, cache), backward (dparams, dx) with forms at the leaves, example by example.

    Shapes and kinds are all that most of it looks at, so that forward and backward are traced and not run.

    Args:
      name: what messages call the layer.
      layer: what is asked.
      apply: its apply, jitted.
      params, x: where, in arrays.

    Raises:
      AssertionError: naming the mistake and its remedy. What forward or backward raise is raised later, by the rule.
    """
    if _traced(lambda params, x: _check_forward(name, layer, params, x), params, x):
        _check_independence(name, apply, params, x)
        _traced(lambda params, x: _check_backward(name, layer, params, x), params, x)


def _traced(ask, params, x):
    """Asks of tracers; whether the layer went through."""
    answers = []
    jax.eval_shape(lambda params, x: answers.append(ask(params, x)), params, x)
    return answers[0]


def _check_forward(name, layer, params, x):
    try:
        result = layer.forward(params, x)
    except Exception:
        return False
    y, cache = _checked_pair(f"{name}: forward", result, "(y, cache); where backward needs nothing, (y, ())")
    _check_cache(name, cache)
    _check_examples(name, x, y)
    return True


def _check_backward(name, layer, params, x):
    y, cache = layer.forward(params, x)
    # Random, so that what backward gives is no special case.
    rng = np.random.default_rng(0)
    dy = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(np.shape(leaf))), y)
    try:
        gradients = layer.backward(params, cache, dy)
    except Exception:
        return
    pair = _checked_pair(f"{name}: backward", gradients, "(dparams, dx), in the order of jax.vjp(f, params, x)")
    _check_order(name, params, x, *pair)
    _check_forms(name, params, pair[0])
    _check_integers(name, x, pair[1])


def _checked_pair(where, result, expected):
    if not isinstance(result, tuple) or len(result) != 2:
        raise AssertionError(f"{where} gives {kind_of(result)}, expected {expected}")
    return result


def _check_cache(name, cache):
    for path, leaf in jax.tree_util.tree_leaves_with_path({"cache": cache}):
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
            raise AssertionError(
                f"{name}: {path_name(path)} is {kind_of(leaf)}; keep arrays alone in the cache, which is all that goes "
                "through a scan"
            )


def _check_examples(name, x, y):
    examples = {np.shape(leaf)[:1] for leaf in jax.tree.leaves((x, y))}
    if len(examples) != 1:
        raise AssertionError(
            f"{name}: forward gives y of shape {_shapes(y)} for x of shape {_shapes(x)}; the first axis of both is "
            "the example"
        )


def _check_independence(name, apply, params, x):
    """Whether other examples' outputs change with the first example's input."""
    if examples_of(x) < 2:
        return
    rng = np.random.default_rng(0)

    def moved(leaf):
        leaf = np.array(leaf)
        leaf[0] = leaf[0] + rng.standard_normal(leaf.shape[1:]) if is_floating(leaf) else leaf[1]
        return jnp.asarray(leaf)

    y, after = apply(params, x), apply(params, jax.tree.map(moved, x))
    for here, there in zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (y, after)), strict=True):
        bound = DEPENDENCE * np.abs(here).max(initial=0.0)
        changed = ~np.isclose(here, there, rtol=DEPENDENCE, atol=bound, equal_nan=True)
        changed = np.flatnonzero(changed[1:].reshape(len(here) - 1, -1).any(axis=1)) + 1
        if len(changed):
            raise AssertionError(
                f"{name}: y[{changed[0]}] changes with x[0] alone: examples that depend on one another have no "
                "gradients of their own; take statistics over an example's own axes, or hold them fixed"
            )


def _check_integers(name, x, dx):
    """None in the place of inputs that have no derivative."""
    if isinstance(x, jax.Array) and not is_floating(x) and dx is not None:
        raise AssertionError(f"{name}: dx of {x.dtype} inputs is {kind_of(dx)}; give None in their place")


def _shapes(tree):
    return jax.tree.map(np.shape, tree)


def _check_order(name, params, x, dparams, dx):
    """dx has the parameters' structure, and dparams x's shape."""
    form = isinstance(dx, Factored) or _structure(dx) == _structure(params) != _structure(dparams)
    if (
        form
        and getattr(dparams, "shape", None) == getattr(x, "shape", ())
        and not isinstance(dparams, (Factored, tuple, list))
    ):
        raise AssertionError(f"{name}: backward gives (dx, dparams), expected (dparams, dx)")


def _check_forms(name, params, dparams):
    """A form at each parameter's place, and one that has the parameter's axes."""
    if _structure(dparams) != _structure(params):
        return
    leaves = jax.tree_util.tree_leaves_with_path({"dparams": dparams}, is_leaf=_is_form)
    for (path, leaf), parameter in zip(leaves, jax.tree.leaves(params, is_leaf=_is_form), strict=True):
        if parameter is None and leaf is None:
            continue
        where, shape = f"{name}: {path_name(path)}", np.shape(parameter)
        if leaf is None:
            raise AssertionError(f"{where} is None; every parameter has gradients: {_forms(shape)}")
        if not isinstance(leaf, Factored):
            raise AssertionError(f"{where} is {kind_of(leaf)}; {_remedy(np.shape(leaf), shape)}")
        if isinstance(leaf, Outer) and len(shape) != 2:
            raise AssertionError(
                f"{where} is an Outer, whose gradient is a matrix, of a parameter of shape {shape}; keep the parameter "
                f"as a matrix (o, i) and reshape it in forward, or form each gradient: {_each(shape)}"
            )
        if isinstance(leaf, Each) and leaf.ndim != len(shape):
            raise AssertionError(
                f"{where} is Each(g) with ndim={leaf.ndim}, of a parameter of shape {shape}: {_each(shape)}"
            )


def _remedy(shape, parameter):
    if shape == parameter:
        return f"leave the sum over the examples to the reading, and wrap what is summed: {_forms(parameter)}"
    return f"wrap it: {_forms(parameter)}"


def _forms(parameter):
    return f"Outer(dz, x), or {_each(parameter)}" if len(parameter) == 2 else _each(parameter)


def _each(parameter):
    return "Each(g)" if len(parameter) == 1 else f"Each(g, ndim={len(parameter)})"


def _is_form(leaf):
    return isinstance(leaf, Factored) or leaf is None


def _structure(tree):
    return jax.tree.structure(tree, is_leaf=_is_form)
