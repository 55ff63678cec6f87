"""Optimizers that take from the backward pass more than its gradient, for use with optax and in its place.

K-FAC's step is -(B + r I)^-1 dW (A + s I)^-1 at a weight: the Kronecker factors of the Fisher matrix, inverted one by
one, since (B kron A)^-1 vec(dW) = vec(B^-1 dW A^-1) for row-major vec. Noise for differential privacy comes from optax.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnet import curvature
from jaxnet.arguments import instance_of, positive_integer
from jaxnet.curvature.columns import AXIS
from jaxnet.curvature.kronecker import factors_by
from jaxnet.factored import Factored
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.repeat import Stacked
from jaxnet.weighting import examples_of

__all__ = [
    "KfacState",
    "kfac",
    "private_noise",
]


def __dir__() -> list[str]:
    return __all__


class KfacState(NamedTuple):
    """What K-FAC remembers.

    Attributes:
      step: how many updates were made.
      key: of the labels drawn next.
      factors: moving averages of the Kronecker factors, as `curvature.kfac` returns them.
      inverses: of the damped factors.
      last: the last update, for momentum.
      damping: lambda.
    """

    step: Int[Array, ""]
    key: Key[Array, ""]
    factors: PyTree[Any]
    inverses: PyTree[Any]
    last: PyTree[Any]
    damping: Float[Array, ""]


# Of the reduction that the quadratic model foretold, so much comes true or the damping changes (section 6.5).
WORSE, BETTER, DAMPING_STEP = 0.25, 0.75, 0.95


def kfac(
    net: Layer,
    loss: Loss,
    learning_rate: float | Callable[[Int[Array, ""]], Any] | None = None,
    *,
    damping: float = 10.0,
    least_damping: float | None = None,
    momentum: float = 0.9,
    decay: float = 0.95,
    interval: SupportsIndex = 1,
    samples: SupportsIndex = 1,
    batch_size: SupportsIndex | None = None,
    key: Key[Array, ""] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """K-FAC: the gradient preconditioned with Kronecker factors of the Fisher matrix.

    With D = -(B + sqrt(lambda) / pi I)^-1 dW (A + pi sqrt(lambda) I)^-1 the update is d = alpha D + mu d_last, where
    pi^2 = (tr A / dim A) / (tr B / dim B) shares the damping lambda out between the factors.

    Without a learning rate, alpha and mu minimise the quadratic model M(d) = <dJ, d> + (1/2) d^T (G + lambda I) d with
    the Gauss-Newton matrix G of the batch, which two products of G with a vector give; and lambda becomes smaller where
    the loss falls as M foretells, and larger where it does not. With one, alpha = learning_rate, mu = momentum, and
    lambda stays.

    A matrix that is no weight, such as a table of positions, is preconditioned as one, by the factors of its block F of
    the Fisher matrix: with F_tdse among its elements (t, d) and (s, e), B_ts = sum_d F_tdsd and
    A_de = sum_t F_tdte / tr F, whose product is F where F is a Kronecker product.

    Args:
      net, loss: the network and its loss.
      learning_rate: alpha, positive, or a schedule of it, `(step) -> alpha`; None for the quadratic model.
      damping: lambda at the start, positive, in units of curvature. Too little lets the first steps lead far away.
      least_damping: what lambda never falls below, at least 0; by default 3 / m for a batch of m examples, the last and
        smaller one of an epoch included. A batch agrees with its own model however far that leads away from the other
        examples, and the more so the smaller it is.
      momentum: mu, in [0, 1), used with a learning rate.
      decay: of the factors' moving averages, in [0, 1): A := decay A + (1 - decay) A_batch. The first steps are plain
        averages.
      interval: how many updates the factors and their inverses serve.
      samples: labels drawn for each example, for the factors.
      batch_size: examples in a full batch, where rows of weight 0 fill up even that; the number of rows by default.
      key: from which labels are drawn; `jax.random.key(0)` by default.

    Returns:
      A transformation whose update takes the batch, `x` and `y` (and `weights`, where they stand in place of 1/m), and
      without a learning rate `value` and `value_fn`, as `make_step` and `make_epoch` give them.

    Raises:
      ValueError: when an argument is out of its range; when first updated, if the network has repeated layers.

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015, sections
    3 (factors), 6.3 (pi), 6.4 and 7 (alpha and mu), 6.5 (lambda); for a matrix that is no weight Ren and Goldfarb,
    Tensor normal training for deep learning models, 2021, section 3. Here each parameter is a block of its own. On a
    CPU that other programs use too, the inverses are far faster with the environment variable OPENBLAS_NUM_THREADS=1.
    """
    instance_of(Layer, "kfac", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    instance_of(Loss, "kfac", "loss to be a Loss", loss, "jaxnet.losses.half_squared_error")
    _check_ranges(learning_rate, damping, least_damping, momentum, decay)
    interval, samples = positive_integer("kfac", "interval", interval), positive_integer("kfac", "samples", samples)
    batch_size = None if batch_size is None else positive_integer("kfac", "batch_size", batch_size)
    key = jax.random.key(0) if key is None else key

    def least(examples):
        return 3 / examples if least_damping is None else jnp.asarray(least_damping)

    def init(params):
        factors = jax.tree.map(_blank_factors, params)
        zero = jnp.zeros((), jnp.int32)
        dtype = jax.tree.leaves(params)[0].dtype
        last = jax.tree.map(jnp.zeros_like, params)
        return KfacState(zero, key, factors, factors, last, jnp.asarray(damping, dtype))

    def update(grads, state, params=None, *, x, y, weights=None, value=None, value_fn=None, **_):
        if params is None:
            raise ValueError("kfac: expected update(grads, state, params, x=x, y=y), got no params")
        _refuse_repeated(net, params, x)
        next_key, sample_key = jax.random.split(state.key)
        damping_now = state.damping
        if learning_rate is None and weights is not None:
            damping_now = jnp.maximum(damping_now, least(1 / (weights**2).sum()).astype(damping_now.dtype))

        def renew(factors, _):
            renewals = (state.step // interval + 1).astype(damping_now.dtype)
            share = jnp.minimum(1 - 1 / renewals, decay)
            columns = curvature.sampled(loss, sample_key, samples)
            batch = factors_by(_factors, "kfac", net, columns, params, x, y, weights)
            factors = jax.tree.map(lambda old, new: share * old + (1 - share) * new, factors, batch)
            return factors, _inverses(params, factors, damping_now)

        def keep(factors, inverses):
            return factors, inverses

        factors, inverses = lax.cond(state.step % interval == 0, renew, keep, state.factors, state.inverses)
        proposal = jax.tree.map(_precondition, grads, inverses)
        if learning_rate is not None:
            rate = learning_rate(state.step) if callable(learning_rate) else learning_rate
            updates = jax.tree.map(
                lambda d, last: jnp.asarray(rate, d.dtype) * d + momentum * last, proposal, state.last
            )
            new_damping = state.damping
        else:
            batch = x, y, weights
            updates, foretold = _minimise_model(net, loss, params, batch, grads, (proposal, state.last), damping_now)
            change = value_fn(optax.apply_updates(params, updates)) - value
            new_damping = jnp.maximum(_adapted(state.damping, change, foretold), least(batch_size or examples_of(x)))
        return updates, KfacState(state.step + 1, next_key, factors, inverses, updates, new_damping)

    return optax.GradientTransformationExtraArgs(init, update)


def private_noise(
    max_norm: float, noise_multiplier: float, batch_size: int | float, key: jax.Array | None = None
) -> optax.GradientTransformation:
    """The noise of differentially private SGD, for gradients read by `per_example.clipped(max_norm, batch_size)`.

    g + N(0, (noise_multiplier max_norm / batch_size)^2) for every parameter, by `optax.add_noise`. Put it before an
    optimizer with `optax.chain`, and take the gradient by `value_and_grad(net, loss, read=per_example.clipped(C, B))`
    with the same B = batch_size: without it, the examples of a smaller batch count for more than the noise allows. What
    privacy that buys is for an accountant to say, for example (package dp-accounting)

        event = dp_event.SelfComposedDpEvent(
            dp_event.PoissonSampledDpEvent(batch_size / examples, dp_event.GaussianDpEvent(noise_multiplier)), steps)
        epsilon = rdp.RdpAccountant().compose(event).get_epsilon(delta)

    which supposes batches drawn at random, each example by itself; `make_epoch` shuffles instead. Only the gradients
    are protected: not the losses that are printed, nor what else is taken from the data, such as means to standardise
    by.

    Args:
      max_norm: C, to which each example's gradient is clipped, positive and finite.
      noise_multiplier: the noise's standard deviation on the sum of the clipped gradients, in units of C, at least 0.
      batch_size: what the sum of the clipped gradients is divided by, at least 1, for batches of any size.
      key: of the noise; `jax.random.key(0)` by default.

    Raises:
      ValueError: when an argument is out of its range.

    Source: Abadi et al., Deep learning with differential privacy, 2016, algorithm 1.
    """
    if not 0 < max_norm < math.inf or not 0 <= noise_multiplier < math.inf or batch_size < 1:
        raise ValueError(
            "private_noise: expected finite max_norm > 0, finite noise_multiplier >= 0 and batch_size >= 1, "
            f"got {max_norm}, {noise_multiplier} and {batch_size}"
        )
    deviation = noise_multiplier * max_norm / batch_size
    noise = optax.add_noise(1.0, 0.0, jax.random.key(0) if key is None else key)

    def update(grads, state, params=None):
        # Optax takes a variance, which float32 may not hold where it holds the deviation.
        normal, state = noise.update(jax.tree.map(jnp.zeros_like, grads), state, params)
        return jax.tree.map(lambda g, of_one: g + deviation * of_one, grads, normal), state

    return optax.GradientTransformation(noise.init, update)


def _check_ranges(learning_rate, damping, least_damping, momentum, decay):
    for name, value, fits, expected in (
        (
            "learning_rate",
            learning_rate,
            learning_rate is None or callable(learning_rate) or learning_rate > 0,
            "a positive number, a schedule or None",
        ),
        ("damping", damping, damping > 0, "a positive number"),
        ("least_damping", least_damping, least_damping is None or least_damping >= 0, "a number of at least 0 or None"),
        ("momentum", momentum, 0 <= momentum < 1, "a number in [0, 1)"),
        ("decay", decay, 0 <= decay < 1, "a number in [0, 1)"),
    ):
        if not fits:
            raise ValueError(f"kfac: expected {name} to be {expected}, got {value}")


def _refuse_repeated(net, params, x):
    """A stack of biases has the shape of a weight matrix, and only its gradients' form tells what it is."""

    def refuse(params, x):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, z)
        if any(isinstance(form, Stacked) for form in jax.tree.leaves(dparams, is_leaf=_is_form)):
            raise ValueError("kfac: expected a network without repeated layers; use chain(*[layer] * n)")

    jax.eval_shape(refuse, params, x)


def _is_form(leaf):
    return isinstance(leaf, Factored)


def _lengths(leaf):
    # By shape, and not by the form of the gradient, for which `init` has no inputs: a matrix has two sides either way.
    return leaf.shape if len(leaf.shape) == 2 else (leaf.size,)


def _blank_factors(leaf):
    """Zeros in the place of the factors: two at every matrix, weight or not, and one at any other parameter."""
    return tuple(jnp.zeros((length, length), leaf.dtype) for length in _lengths(leaf))


def _factors(form, leaf, weights):
    """As many as `_blank_factors` has: those of the form, and two of a matrix that it does not call a weight."""
    if form.sides is None and len(_lengths(leaf)) == 2:
        return form.matrix_factors(weights, AXIS)
    return form.kronecker_factors(weights, AXIS)


def _inverses(params, factors, damping):
    def of_leaf(_, factors):
        if len(factors) == 1:
            return (_inverse(factors[0], damping),)
        B, A = factors
        pi = jnp.sqrt(_mean_diagonal(A) / _mean_diagonal(B))
        # A factor of zeros, such as that of an input that never changes, takes no part in the sharing.
        pi = jnp.where(jnp.isfinite(pi) & (pi > 0), pi, jnp.ones_like(pi))
        root = jnp.sqrt(damping)
        return _inverse(B, root / pi), _inverse(A, root * pi)

    return jax.tree.map(of_leaf, params, factors)


def _mean_diagonal(factor):
    return jnp.trace(factor) / factor.shape[0]


# One at a time under vmap: on CPUs with few cores, batched Cholesky factors can wait for each other for ever (jaxlib
# 0.10.2).
@jax.custom_batching.sequential_vmap
def _inverse(factor, damping):
    eye = jnp.eye(factor.shape[0], dtype=factor.dtype)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(factor + damping * eye), eye)


def _precondition(gradient, inverses):
    """-B^-1 dW A^-1, or -B^-1 db."""
    if len(inverses) == 1:
        return -(inverses[0] @ gradient.reshape(-1)).reshape(gradient.shape)
    layout = jax.typeof(gradient).sharding
    halfway = jnp.matmul(inverses[0], gradient, out_sharding=layout)
    return -jnp.matmul(halfway, inverses[1], out_sharding=layout)


def _minimise_model(net, loss, params, batch, grads, directions, damping):
    """The combination of two directions at which M is least, and M there."""
    x, y, weights = batch

    def curved(direction):
        product = curvature.ggn_vector_product(net, loss, params, x, y, direction, weights)
        return jax.tree.map(lambda gv, v: gv + damping * v, product, direction)

    first, second = directions
    curved_first, curved_second = curved(first), curved(second)
    off_diagonal = _inner(first, curved_second)
    diagonal = _inner(first, curved_first), _inner(second, curved_second)
    slopes = _inner(grads, first), _inner(grads, second)
    # In units of each direction's own curvature the matrix is [[1, c], [c, 1]]; parallel directions, or no last
    # update, leave the first alone.
    scales = [jnp.sqrt(jnp.where(d > 0, d, jnp.ones_like(d))) for d in diagonal]
    c = off_diagonal / (scales[0] * scales[1])
    b = [slope / scale for slope, scale in zip(slopes, scales, strict=True)]
    apart = (diagonal[1] > 0) & (jnp.abs(c) < 1 - 1e-3)
    det = jnp.where(apart, 1 - c**2, jnp.ones_like(c))
    alpha = jnp.where(apart, (c * b[1] - b[0]) / det, -b[0]) / scales[0]
    mu = jnp.where(apart, (c * b[0] - b[1]) / det, jnp.zeros_like(c)) / scales[1]
    update = jax.tree.map(lambda d, last: alpha * d + mu * last, first, second)
    # At the least point the model is half its slope.
    return update, (alpha * slopes[0] + mu * slopes[1]) / 2


def _adapted(damping, change, foretold):
    kept = change / jnp.where(foretold < 0, foretold, -jnp.ones_like(foretold))
    smaller = jnp.where(kept > BETTER, DAMPING_STEP, 1.0)
    # A loss that is not finite counts as one that did not fall.
    factor = jnp.where(kept >= WORSE, smaller, 1 / DAMPING_STEP)
    return damping * factor.astype(damping.dtype)


def _inner(tree, other):
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))
