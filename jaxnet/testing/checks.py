"""What users call: each puts its object's backward pass as a `Rule` and has it checked."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import gradient, per_example
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.testing.compare import assert_close, is_floating
from jaxnet.testing.rule import TOLERANCE, Rule, check_rule
from jaxnet.testing.samples import check_samples
from jaxnet.weighting import weighted

MOVE = 0.3


def check_vjp(
    f: Callable[..., Any],
    rule: Callable[..., Any],
    *args: Any,
    key: jax.Array | None = None,
    tolerance: float = TOLERANCE,
    zero_gradients: bool = False,
) -> None:
    """Asserts that a hand-written reverse rule is the derivative of a function.

    For random cotangents dy: the rule's pullback of dy equals `jax.vjp(f, *args)`'s, in structure, shapes, dtypes and,
    leaf by leaf, values: in float64, eagerly, jitted and under vmap; in float32 and bfloat16 against the float64
    values, within a small multiple of autodiff's own error. It agrees with central differences of f, is linear in dy,
    and is finite for huge and tiny arguments wherever autodiff is.

    Args:
      f: the plain function, which JAX can differentiate; its outputs are floating.
      rule: the same function with a rule attached (by `jax.custom_vjp`, also deep inside), or a function
        `(*args) -> (y, pullback)` with `pullback(dy)` a tuple of cotangents, as `jax.vjp(f, *args)` returns.
      args: pytrees of arrays, away from kinks; leaves that are not floating have no cotangent.
      key: from which cotangents and directions are drawn.
      tolerance: largest |difference| in float64, relative to the leaf's largest |value|.
      zero_gradients: whether the gradient of an argument may be zero everywhere. Without it that is refused, because
        there a rule that returns zeros passes.

    Raises:
      AssertionError: with argument, leaf, worst index, both values, relative error and, where one fits, the kind of
        mistake: a constant factor such as 1/m, a flipped sign, a transpose.
    """

    def pullback(*args_and_dy):
        *args, dy = args_and_dy
        result = rule(*args)
        if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
            y, by_hand = result
        else:
            y, by_hand = jax.vjp(rule, *args)
        return y, tuple(by_hand(dy))

    labels = tuple(f"d(argument {number})" for number in range(len(args)))
    name = f"check_vjp: {getattr(f, '__name__', 'function')}"
    with jax.enable_x64(True):
        check_rule(Rule(name, f, pullback, args, labels), _rng(key), tolerance=tolerance, zero_gradients=zero_gradients)


def check_layer(
    layer: Layer, x: Any, key: jax.Array, *, tolerance: float = TOLERANCE, zero_gradients: bool = False
) -> None:
    """Asserts that a layer's backward is the derivative of its forward, for parameters and input.

    All that `check_vjp` asserts of `layer.apply`, for parameters moved off their start. The per-example gradients are
    read with a weight of its own for each example, so that mixed-up examples, which a sum would hide, show. Where the
    layer has `second`, that is the second derivative: what backward changes by along x, and along params by nothing.

    Args:
      layer: any layer or network, yours as well; its examples must not depend on one another.
      x: an input (m, ..., features), away from kinks.
      key: from which parameters, cotangents and weights are drawn.
      tolerance, zero_gradients: as for `check_vjp`.

    Raises:
      AssertionError: as `check_vjp` does.
    """
    with jax.enable_x64(True):
        rng = _rng(key)
        params = _moved(layer.init(key), rng)
        rule = Rule(
            f"check_layer: {layer.name}", layer.apply, _layer_pullback(layer, x, rng), (params, x), ("dparams", "dx")
        )
        check_rule(rule, rng, tolerance=tolerance, zero_gradients=zero_gradients)
        if layer.second is not None:
            _check_second(layer, params, _float64(x), rng, tolerance)


def check_loss(loss: Loss, z: Any, y: Any, *, tolerance: float = TOLERANCE, zero_gradients: bool = False) -> None:
    """Asserts that a loss's backward and root Hessian are its first and second derivative, and that samples fit.

    backward: all that `check_vjp` asserts. root_hessian: sum_v S_v S_v^T equals `jax.hessian` of each example's loss.
    sample: targets of y's shape and kind, under which the mean of backward is zero, as it is for every log-likelihood
    under its own distribution.

    Args:
      loss: any loss, yours as well.
      z: outputs (m, ..., o).
      y: targets.
      tolerance, zero_gradients: as for `check_vjp`.

    Raises:
      AssertionError: with the quantity, the worst index, both values and the relative error.
    """
    name = f"check_loss: {getattr(loss.forward, '__name__', 'loss').removesuffix('_forward')}"

    def pullback(z, y, dlosses):
        return loss.forward(z, y), (_weighted(dlosses, loss.backward(z, y)),)

    def hessian_by_hand(z, y):
        S = loss.root_hessian(z, y).reshape(-1, z.shape[0], z[0].size)
        return {"hessian": jnp.einsum("vmi,vmj->mij", S, S)}

    def hessian_by_autodiff(z, y):
        hessian = jax.vmap(jax.hessian(lambda z, y: loss.forward(z[None], y[None])[0]))(z, y)
        return {"hessian": hessian.reshape(z.shape[0], z[0].size, z[0].size)}

    with jax.enable_x64(True):
        z, y = _float64(z), _float64(y)
        losses = jax.eval_shape(loss.forward, z, y)
        if losses.shape != z.shape[:1]:
            raise AssertionError(f"{name}: forward gives shape {losses.shape}, expected {z.shape[:1]}")
        rng = _rng(None)
        rule = Rule(name, loss.forward, pullback, (z,), ("dz",), (y,))
        check_rule(rule, rng, tolerance=tolerance, zero_gradients=zero_gradients)
        expected = jax.jit(hessian_by_autodiff)(z, y)
        assert_close(f"{name}, float64", jax.jit(hessian_by_hand)(z, y), expected, lambda _, __: tolerance)
        check_samples(name, loss, z, y, jax.random.key(1))


def check_network(
    net: Layer,
    loss: Loss,
    params: Any,
    x: Any,
    y: Any,
    *,
    tolerance: float = TOLERANCE,
    zero_gradients: bool = False,
) -> None:
    """Asserts that the gradients of a network's loss are those of `jax.grad`, by whichever door they are asked for.

    All that `check_vjp` asserts of the examples' losses, as functions of parameters and input: the parameters'
    gradients by `value_and_grad` reading a weighted total, the input's by `with_hand_derived_vjp` under `jax.vjp`; and
    `value_and_grad` of the mean loss.

    Args:
      net: any network.
      loss: any loss that suits it.
      params: its parameters; each is moved a little, so that zeros and ones are not special.
      x, y: inputs and targets of m examples.
      tolerance, zero_gradients: as for `check_vjp`.

    Raises:
      AssertionError: as `check_vjp` does.
    """
    value_and_grad, apply = gradient.value_and_grad(net, loss), gradient.with_hand_derived_vjp(net)
    # Weights that meet the examples in the reading, and not at the output, show examples that were mixed up.
    read = gradient.value_and_grad(net, loss, read=per_example.total)

    def losses(params, x, y):
        return loss.forward(net.apply(params, x), y)

    def pullback(params, x, y, dlosses):
        _, grads = read(params, x, y, dlosses)
        values, inside = jax.vjp(lambda x: loss.forward(apply(params, x), y), x)
        return values, (grads, *inside(dlosses))

    def means_by_hand(params, x, y):
        value, grads = value_and_grad(params, x, y)
        inside = jax.grad(lambda params: loss.forward(apply(params, x), y).mean())(params)
        return {"J": value, "grads": grads, "grads under jax.grad": inside}

    def means_by_autodiff(params, x, y):
        value, grads = jax.value_and_grad(lambda params: losses(params, x, y).mean())(params)
        return {"J": value, "grads": grads, "grads under jax.grad": grads}

    name = f"check_network: {net.name}"
    with jax.enable_x64(True):
        rng = _rng(None)
        params, x, y = _moved(params, rng), _float64(x), _float64(y)
        expected = jax.jit(means_by_autodiff)(params, x, y)
        by_hand = jax.jit(means_by_hand)(params, x, y)
        assert_close(f"{name}, the mean loss, float64", by_hand, expected, lambda _, __: tolerance, lengths=x.shape)
        rule = Rule(name, losses, pullback, (params, x), ("dparams", "dx"), (y,))
        check_rule(rule, rng, tolerance=tolerance, zero_gradients=zero_gradients)


def _layer_pullback(layer, x, rng):
    # Powers of two, so that dividing and multiplying by them is exact in every type.
    examples = np.shape(x)[0] if np.ndim(x) else 1
    weights = rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], examples)

    def pullback(params, x, dy):
        y, cache = layer.forward(params, x)
        dparams, dx = layer.backward(params, cache, _weighted(1 / weights, dy))
        total = per_example.total(dparams, jnp.asarray(weights, dy.dtype))
        return y, (total, _weighted(weights, dx) if is_floating(x) else dx)

    return pullback


def _check_second(layer, params, x, rng, tolerance):
    """How the pullback of dy changes along a random direction, in x and in params."""

    def pullback(params, x, dy):
        _, vjp = jax.vjp(layer.apply, params, x)
        return vjp(dy)

    def by_autodiff(params, x, dy, along_params, along_x):
        _, (bend_of_params, _) = jax.jvp(lambda params: pullback(params, x, dy), (params,), (along_params,))
        _, (_, bend) = jax.jvp(lambda x: pullback(params, x, dy), (x,), (along_x,))
        return {"second": bend, "second derivative by params": bend_of_params}

    def by_hand(params, x, dy, along_params, along_x):
        _, cache = layer.forward(params, x)
        bend = layer.second(params, cache, dy)
        bend = jnp.zeros_like(x) if bend is None else bend * along_x
        return {"second": bend, "second derivative by params": jax.tree.map(jnp.zeros_like, params)}

    def draw(like):
        return jnp.asarray(rng.standard_normal(like.shape))

    dy = draw(jax.eval_shape(layer.apply, params, x))
    arguments = params, x, dy, jax.tree.map(draw, params), draw(x)
    actual, expected = jax.jit(by_hand)(*arguments), jax.jit(by_autodiff)(*arguments)
    assert_close(f"check_layer: {layer.name}, float64", actual, expected, lambda _, __: tolerance)


def _weighted(weights, signal):
    return weighted(jnp.asarray(weights, signal.dtype), signal)


def _moved(params, rng):
    """The parameters off their 0 and 1 starts, in float64."""

    def move(leaf):
        leaf = np.asarray(leaf)
        return jnp.asarray(leaf + MOVE * rng.standard_normal(leaf.shape)) if is_floating(leaf) else jnp.asarray(leaf)

    return jax.tree.map(move, params)


def _float64(leaf):
    return jnp.asarray(leaf, np.float64) if is_floating(leaf) else jnp.asarray(leaf)


def _rng(key):
    """NumPy's, which has nothing to compile."""
    return np.random.default_rng(0 if key is None else np.asarray(jax.random.key_data(key)))
