"""K-FAC: the gradient preconditioned with Kronecker factors of the Fisher matrix."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnet import curvature
from jaxnet.arguments import instance_of, positive_integer
from jaxnet.curvature.kronecker import Positions, factors_by, reduces
from jaxnet.layer import Layer, at_leaves
from jaxnet.losses import Loss
from jaxnet.optimizers.one_block import joint
from jaxnet.optimizers.preconditioner import (
    blank_factors,
    blank_factors_by_shape,
    factors_of,
    inverses_of,
    precondition,
)
from jaxnet.optimizers.quadratic_model import EVERY, adapted, minimise_model
from jaxnet.weighting import examples_of

# Steps for which inverses are made anew whatever the interval (section 8 of the paper).
EARLY = 3


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


def kfac(
    net: Layer,
    loss: Loss,
    learning_rate: float | Callable[[Int[Array, ""]], Any] | None = None,
    *,
    damping: float = 10.0,
    least_damping: float | None = None,
    momentum: float = 0.9,
    decay: float = 0.95,
    interval: SupportsIndex = 5,
    factor_interval: SupportsIndex = 1,
    samples: SupportsIndex = 1,
    batch_size: SupportsIndex | None = None,
    positions: Positions = "expand",
    one_block: bool = True,
    largest_block: SupportsIndex = 1024,
    inputs: PyTree[Any] = None,
    key: Key[Array, ""] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """K-FAC: the gradient preconditioned with Kronecker factors of the Fisher matrix.

    With D = -(B + sqrt(lambda) / pi I)^-1 dW (A + pi sqrt(lambda) I)^-1 the update is d = alpha D + mu d_last, where
    pi^2 = (tr A / dim A) / (tr B / dim B) shares the damping lambda out between the factors.

    Without a learning rate, alpha and mu minimise the quadratic model M(d) = <dJ, d> + (1/2) d^T (G + lambda I) d with
    the Gauss-Newton matrix G of the batch, which the products J D and J d_last give; and in every fifth step lambda
    becomes smaller where the loss falls as M foretells, and larger where it does not. With one, alpha = learning_rate,
    mu = momentum, and lambda stays.

    With positions, and in convolutions, whose windows' places are positions, each counts as an example of its own
    (KFAC-expand), or their sum and mean are taken first (KFAC-reduce), for networks that pool them; so is each use of a
    layer that is used several times. Groups of a convolution, and rounds of a repeated layer, have factors of their
    own. A gain, a bias or anything else that is no weight has its whole block of the Fisher matrix, or, beyond
    `largest_block` numbers, the diagonal of that.

    A matrix that is no weight, such as a table of positions, is preconditioned as one, by the factors of its block F of
    the Fisher matrix: with F_tdse among its elements (t, d) and (s, e), B_ts = sum_d F_tdsd and
    A_de = sum_t F_tdte / tr F, whose product is F where F is a Kronecker product. The rows of an embedding, of which
    there are many, have a diagonal factor: of how often each is looked up, and that of B where the same matrix is also
    used in another way, as by `tied`.

    Args:
      net, loss: the network and its loss.
      learning_rate: alpha, positive, or a schedule of it, `(step) -> alpha`; None for the quadratic model.
      damping: lambda at the start, positive, in units of curvature. Too little lets the first steps lead far away.
      least_damping: what lambda never falls below, at least 0; by default the smaller of 3 / m and 48 / m^2 for a batch
        of m examples, the last and smaller one of an epoch included. A batch agrees with its own model however far that
        leads away from the other examples, and the more so the smaller it is.
      momentum: mu, in [0, 1), used with a learning rate.
      decay: of the factors' moving averages for each update, in [0, 1): A := s A + (1 - s) A_batch every k =
        `factor_interval` updates, with s = decay^k, so that they go back as far whatever k is. The first are plain
        averages.
      interval: how many updates the inverses serve; but the first three are made anew each time.
      factor_interval: how many updates pass from one batch whose factors are averaged to the next.
      samples: labels drawn for each example, for the factors.
      batch_size: examples in a full batch, where rows of weight 0 fill up even that; the number of rows by default.
      positions: "expand" or "reduce", as for `curvature.kfac`.
      one_block: a layer's weight and its bias, the vector of as many numbers as it has outputs, are one block: that of
        [W b] on inputs [a; 1]. Otherwise each is a block of its own.
      largest_block: how many numbers a parameter that is no weight may have for its whole block to be kept.
      inputs: x of a batch, of any number of examples, or its shapes, by which the state is made. Without, it is made by
        the parameters' shapes, which do not tell the factors of convolutions and of repeated layers.
      key: from which labels are drawn; `jax.random.key(0)` by default.

    Returns:
      A transformation whose update takes the batch, `x` and `y` (and `weights`, where they stand in place of 1/m), and
      without a learning rate `value` and `value_fn`, as `make_step` and `make_epoch` give them.

    Raises:
      ValueError: when an argument is out of its range; when first updated, if the state was made without `inputs` and
        is not that of the network's factors.

    Cost, for a weight (o, i) and m examples with T positions: 2 m T (o^2 + i^2) operations for factors and a backward
    pass without gradients, every `factor_interval` updates; (4/3) (o^3 + i^3) for inverses on CPUs, every `interval`;
    and each time 2 o i (o + i) for D, and two products forward for J D and J d_last each; a pass forward every fifth
    time. Memory: 2 (o^2 + i^2) numbers.

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015, sections
    3 (factors), 6.3 (pi), 6.4 and 7 (alpha and mu), 6.5 (lambda), 8 (intervals); for convolutions Grosse and Martens,
    A Kronecker-factored approximate Fisher matrix for convolution layers, 2016; for positions and several uses
    Eschenhagen et al., Kronecker-factored approximate curvature for modern neural network architectures, 2023; for a
    matrix that is no weight Ren and Goldfarb, Tensor normal training for deep learning models, 2021, section 3.

    Example:
      >>> optimizer = jn.optimizers.kfac(net, loss)
      >>> state, step = jn.TrainState.create(params, optimizer), jn.make_step(net, loss, optimizer)
      >>> type(state.opt_state).__name__
      'KfacState'
      >>> state, first = step(state, x, y)
      >>> for _ in range(10):
      ...     state, metrics = step(state, x, y)
      >>> bool(metrics["loss"] < first["loss"])
      True
    """
    _check(net, loss, learning_rate, damping, least_damping, momentum, decay)
    numbers = {"interval": interval, "factor_interval": factor_interval, "samples": samples}
    interval, factor_interval, samples = (positive_integer("kfac", *number) for number in numbers.items())
    largest_block = positive_integer("kfac", "largest_block", largest_block)
    batch_size = None if batch_size is None else positive_integer("kfac", "batch_size", batch_size)
    key = jax.random.key(0) if key is None else key

    least = _least if least_damping is None else lambda examples: jnp.asarray(least_damping)
    read = partial(factors_of, largest_block, reduces("kfac", positions))
    read_net = at_leaves(joint, net) if one_block else net

    def init(params):
        if not jax.tree.leaves(params):
            raise ValueError("kfac: expected parameters, got none")
        by_shape = partial(blank_factors_by_shape, net, params, largest_block, one_block)
        factors = by_shape() if inputs is None else blank_factors(read_net, read, params, inputs)
        start = jnp.asarray(damping, jax.tree.leaves(params)[0].dtype)
        return KfacState(jnp.zeros((), jnp.int32), key, factors, factors, jax.tree.map(jnp.zeros_like, params), start)

    def update(grads, state, params=None, *, x, y, weights=None, value=None, value_fn=None, **_):
        if params is None:
            raise ValueError("kfac: expected update(grads, state, params, x=x, y=y), got no params")
        next_key, sample_key = jax.random.split(state.key)
        damping_now = state.damping
        if learning_rate is None and weights is not None:
            damping_now = jnp.maximum(damping_now, least(1 / (weights**2).sum()).astype(damping_now.dtype))

        def averaged(factors):
            renewals = (state.step // factor_interval + 1).astype(damping_now.dtype)
            share = jnp.minimum(1 - 1 / renewals, decay**factor_interval)
            columns = curvature.sampled(loss, sample_key, samples)
            batch = factors_by(read, "kfac", read_net, columns, params, x, y, weights)
            _check_factors(params, factors, batch)
            return jax.tree.map(partial(_average, share), factors, batch)

        factors = _every(factor_interval, state.step, averaged, state.factors)
        # The first factors are of a batch or two, and serve for one step each.
        due = state.step < EARLY
        inverses = _every(
            interval, state.step, lambda _: inverses_of(params, factors, damping_now), state.inverses, due
        )
        proposal = precondition(grads, inverses)
        if learning_rate is not None:
            rate = learning_rate(state.step) if callable(learning_rate) else learning_rate
            updates = jax.tree.map(partial(_with_momentum, rate, momentum), proposal, state.last)
            new_damping = state.damping
        else:
            batch = x, y, weights
            updates, foretold = minimise_model(net, loss, params, batch, grads, (proposal, state.last), damping_now)

            def adapt(damping):
                return adapted(damping, value_fn(optax.apply_updates(params, updates)) - value, foretold)

            new_damping = lax.cond((state.step + 1) % EVERY == 0, adapt, lambda damping: damping, state.damping)
            new_damping = jnp.maximum(new_damping, least(batch_size or examples_of(x)))
        return updates, KfacState(state.step + 1, next_key, factors, inverses, updates, new_damping)

    return optax.GradientTransformationExtraArgs(init, update)


def _least(examples):
    """What damping does not fall below by default."""
    return jnp.minimum(3 / examples, 48 / examples**2)


def _check(net, loss, learning_rate, damping, least_damping, momentum, decay):
    instance_of(Layer, "kfac", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    instance_of(Loss, "kfac", "loss to be a Loss", loss, "jaxnet.losses.half_squared_error")
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


def _average(share, old, new):
    return (share * old + (1 - share) * new.astype(old.dtype)).astype(old.dtype)


def _with_momentum(rate, momentum, direction, last):
    return jnp.asarray(rate, direction.dtype) * direction + momentum * last


def _every(interval, step, renewed, old, due=False):
    """What is renewed in every so manieth step, and when it is due."""
    if interval == 1:
        return renewed(old)
    return lax.cond((step % interval == 0) | due, renewed, lambda old: old, old)


def _check_factors(params, factors, batch):
    """Refuses a state that `init` had to make without knowing what the parameters are."""
    structure: Any = jax.tree.structure(params)
    of_leaves = zip(
        jax.tree_util.tree_leaves_with_path(params), *map(structure.flatten_up_to, (factors, batch)), strict=True
    )
    for (path, leaf), blank, of_batch in of_leaves:
        if jax.tree.map(jnp.shape, blank) != jax.tree.map(jnp.shape, of_batch):
            raise ValueError(
                f"kfac: expected inputs=x, a batch or its shapes, since the shape {leaf.shape} of the parameter "
                f"{jax.tree_util.keystr(path)} does not tell its factors; give kfac(net, loss, inputs=x)"
            )
