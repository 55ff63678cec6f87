"""The oracle: a hand-derived backward pass is right if it equals what automatic differentiation finds.

The only core module that calls `jax.vjp` and `jax.grad`. Each check draws a random cotangent (ones prove nothing: the
softmax's pullback of ones is zero), moves the parameters off their 0 and 1 starts, and compares leaf by leaf, relative
to the leaf's largest value: in float64 to rounding, then in float32 against that float64 reference.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxnet import gradient, per_example
from jaxnet.layer import Layer
from jaxnet.losses import Loss

# float64 rounds at 1.1e-16 and sums of some thousand terms in another order differ by about 1e-14.
TOLERANCE = 1e-12
# Hand and autodiff round in other places: in float32, hand may err by this many times what autodiff errs,
# plus this many units in the last place of the leaf's largest value.
FLOAT32_FACTOR = 8


def check_layer(layer: Layer, x: Any, key: jax.Array, *, tolerance: float = TOLERANCE) -> None:
    """Asserts that a layer's backward is the derivative of its forward, for parameters and input.

    For a random cotangent dy and random weights w of the examples, with f = `layer.apply`:
    `total(dparams, w)` and `w * dx` of `backward(dy)` equal `jax.vjp(f, params, x)` of `w * dy`. The weights tell
    apart the examples, which a sum would not. Eagerly and jitted, in float64 and float32.

    Args:
      layer: any layer or network, yours as well; its examples must not depend on one another.
      x: an input (m, ..., features), away from kinks such as relu's 0.
      key: from which parameters, cotangent and weights are drawn.
      tolerance: largest |difference| in float64, relative to the leaf's largest |value|.

    Raises:
      AssertionError: with the leaf's path, the worst index, both values and the relative error.
    """

    def by_hand(params, x, dy, weights):
        _, cache = layer.forward(params, x)
        dparams, dx = layer.backward(params, cache, dy)
        return {"dparams": per_example.total(dparams, weights), "dx": _scaled(dx, weights)}

    def by_autodiff(params, x, dy, weights):
        _, pullback = jax.vjp(layer.apply, params, x)
        dparams, dx = pullback(_scaled(dy, weights))
        return {"dparams": dparams, "dx": dx}

    with jax.enable_x64(True):
        rng = _generator(key)
        x, params = _cast(x, np.float64), _moved(jax.jit(layer.init)(key), rng)
        y = jax.eval_shape(layer.apply, params, x)
        arguments = (params, x, _normal(rng, y.shape), _normal(rng, y.shape[:1]))
        _compare(f"check_layer: {layer.name}", by_hand, by_autodiff, arguments, tolerance)


def check_loss(loss: Loss, z: Any, y: Any, *, tolerance: float = TOLERANCE) -> None:
    """Asserts that a loss's backward and root Hessian are its first and second derivative, and that samples fit.

    backward: equals `jax.vjp` of forward for random weights of the examples. root_hessian: sum_v S_v S_v^T equals
    `jax.hessian` of each example's loss. sample: targets of y's shape and dtype, under which the mean of backward is
    zero, as it is for every log-likelihood under its own distribution.

    Args:
      loss: any loss, yours as well.
      z: outputs (m, ..., o).
      y: targets.
      tolerance: as for `check_layer`.

    Raises:
      AssertionError: with the quantity, the worst index, both values and the relative error.
    """

    def by_hand(z, y, weights):
        S = loss.root_hessian(z, y).reshape(-1, z.shape[0], z[0].size)
        return {"dz": _scaled(loss.backward(z, y), weights), "hessian": jnp.einsum("vmi,vmj->mij", S, S)}

    def by_autodiff(z, y, weights):
        _, pullback = jax.vjp(lambda z: loss.forward(z, y), z)
        hessian = jax.vmap(jax.hessian(lambda z, y: loss.forward(z[None], y[None])[0]))(z, y)
        return {"dz": pullback(weights)[0], "hessian": hessian.reshape(z.shape[0], z[0].size, z[0].size)}

    name = f"check_loss: {getattr(loss.forward, '__name__', 'loss').removesuffix('_forward')}"
    with jax.enable_x64(True):
        z, y = _cast(z, np.float64), _cast(y, np.float64)
        losses = loss.forward(z, y)
        _require(losses.shape == z.shape[:1], f"{name}: forward gives shape {losses.shape}, expected {z.shape[:1]}")
        weights = _normal(_generator(jax.random.key(0)), z.shape[:1])
        _compare(name, by_hand, by_autodiff, (z, y, weights), tolerance)
        _check_samples(name, loss, z, y, jax.random.key(1))


def check_network(net: Layer, loss: Loss, params: Any, x: Any, y: Any, *, tolerance: float = TOLERANCE) -> None:
    """Asserts that `value_and_grad` and `with_hand_derived_vjp` equal `jax.value_and_grad` of the loss.

    Of its mean, and of its sum with random weights for the examples, which tells them apart; for parameters and input.

    Args:
      net: any network.
      loss: any loss that suits it.
      params: its parameters; each is moved a little, so that zeros and ones are not special.
      x, y: inputs and targets of m examples.
      tolerance: as for `check_layer`.

    Raises:
      AssertionError: with the leaf's path, the worst index, both values and the relative error.
    """

    def weighted_loss(apply, params, x, y, weights):
        return (loss.forward(apply(params, x), y) * weights).sum()

    def by_hand(params, x, y, weights):
        value, grads = gradient.value_and_grad(net, loss)(params, x, y)
        weighted = gradient.value_and_grad(net, loss)(params, x, y, weights)
        apply = gradient.with_hand_derived_vjp(net)
        under_grad = jax.grad(lambda params, x: weighted_loss(apply, params, x, y, weights), (0, 1))(params, x)
        return {"value": value, "grads": grads, "weighted": weighted, "under jax.grad": under_grad}

    def by_autodiff(params, x, y, weights):
        value, grads = jax.value_and_grad(lambda params: loss.forward(net.apply(params, x), y).mean())(params)
        weighted, under_grad = jax.value_and_grad(
            lambda params, x: weighted_loss(net.apply, params, x, y, weights), (0, 1)
        )(params, x)
        return {
            "value": value,
            "grads": grads,
            "weighted": (weighted, under_grad[0]),
            "under jax.grad": under_grad,
        }

    with jax.enable_x64(True):
        rng = _generator(jax.random.key(0))
        params, x, y = _moved(params, rng), _cast(x, np.float64), _cast(y, np.float64)
        arguments = (params, x, y, _normal(rng, y.shape[:1]))
        _compare(f"check_network: {net.name}", by_hand, by_autodiff, arguments, tolerance)


def _compare(name, by_hand: Callable, by_autodiff: Callable, arguments, tolerance):
    by_autodiff = jax.jit(by_autodiff)
    expected = by_autodiff(*arguments)
    for how, function in (("eager", by_hand), ("jitted", jax.jit(by_hand))):
        _assert_equal(f"{name}, float64, {how}", function(*arguments), expected, lambda _, __: tolerance)

    # The reference is taken at the float32 arguments, so that only the arithmetic differs.
    rounded = jax.tree.map(lambda leaf: _cast(leaf, np.float32), arguments)
    reference = by_autodiff(*jax.tree.map(lambda leaf: _cast(leaf, np.float64), rounded))
    autodiff = by_autodiff(*rounded)

    def bound(reference, autodiff):
        return FLOAT32_FACTOR * (np.finfo(np.float32).eps + _relative_error(autodiff, reference)[0])

    _assert_equal(f"{name}, float32, jitted", jax.jit(by_hand)(*rounded), reference, bound, autodiff)


def _assert_equal(name, actual: PyTree, expected: PyTree, bound: Callable, autodiff: PyTree | None = None):
    actual_leaves, actual_structure = jax.tree_util.tree_flatten_with_path(actual)
    expected_leaves, expected_structure = jax.tree_util.tree_flatten_with_path(expected)
    same: bool = actual_structure == expected_structure  # type: ignore[operator]
    _require(
        same,
        f"{name}: expected the structure {expected_structure}, got {actual_structure}",
    )
    peers = jax.tree.leaves(expected if autodiff is None else autodiff)
    failures = []
    for (path, hand), (_, right), peer in zip(actual_leaves, expected_leaves, peers, strict=True):
        where = f"{path[0].key}{jax.tree_util.keystr(path[1:])}"
        if hand.shape != right.shape or hand.dtype != peer.dtype:
            failures.append(f"{where}: expected {peer.dtype}{right.shape}, got {hand.dtype}{hand.shape}")
            continue
        error, index = _relative_error(hand, right)
        allowed = bound(right, peer)
        if not error <= allowed:
            failures.append(
                f"{where}{list(index)}: by hand {float(hand[index]):.9g}, expected {float(right[index]):.9g}; "
                f"off by {error:.1e} of the leaf's largest value, allowed {allowed:.1e}"
            )
    _require(not failures, "\n  ".join([f"{name}:", *failures]))


def _relative_error(actual, expected):
    """The largest |difference| over the largest |expected|, and where it is; NaN if either holds one."""
    if actual.size == 0:
        return 0.0, ()
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    difference = np.abs(actual - expected)
    index = np.unravel_index(np.argmax(difference), difference.shape)
    scale = np.abs(expected).max()
    worst = float(difference[index] / scale) if scale > 0 else float(difference[index])
    return worst, tuple(int(i) for i in index)


def _check_samples(name, loss, z, y, key, draws=4096):
    @jax.jit
    def statistics(z, key):
        samples = jax.vmap(loss.sample, (0, None))(jax.random.split(key, draws), z)
        mean = jax.vmap(loss.backward, (None, 0))(z, samples).mean(axis=0)
        # The variance of backward under the loss's own distribution is the mean second derivative.
        variance = jax.vmap(lambda y: (loss.root_hessian(z, y) ** 2).sum(axis=0))(samples).mean(axis=0)
        standard_error = jnp.sqrt(variance / draws)
        return (jnp.abs(mean) / jnp.where(standard_error > 0, standard_error, TOLERANCE)).max()

    sample = jax.eval_shape(loss.sample, key, z)
    both_floating = jnp.issubdtype(sample.dtype, jnp.floating) == jnp.issubdtype(y.dtype, jnp.floating)
    _require(
        sample.shape == y.shape and both_floating,
        f"{name}: sample gives {sample.dtype}{sample.shape}, expected {y.dtype}{y.shape} as y is",
    )
    deviations = float(statistics(z, key))
    # Six standard deviations happen by chance to one value in 500 million.
    _require(
        deviations < 6,
        f"{name}: backward at {draws} samples has a mean {deviations:.1f} standard errors from 0: "
        "they are not drawn from the distribution whose negative log-likelihood the loss is",
    )


# Drawn and cast by NumPy, which has nothing to compile.
def _generator(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return jnp.asarray(rng.standard_normal(shape))


def _moved(params: PyTree, rng: np.random.Generator) -> PyTree:
    def move(leaf):
        leaf = np.asarray(leaf)
        return jnp.asarray(leaf + 0.3 * rng.standard_normal(leaf.shape))

    return jax.tree.map(move, params)


def _cast(leaf: Any, dtype: Any) -> Array:
    leaf = np.asarray(leaf)
    return jnp.asarray(leaf.astype(dtype) if np.issubdtype(leaf.dtype, np.floating) else leaf)


def _scaled(signal: Float[Array, "m ..."], weights: Float[Array, " m"]) -> Float[Array, "m ..."]:
    return signal * jnp.expand_dims(weights.astype(signal.dtype), range(1, signal.ndim))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
