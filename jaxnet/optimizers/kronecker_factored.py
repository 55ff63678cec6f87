"""K-FAC: the gradient preconditioned with Kronecker factors of the Fisher matrix."""

from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnet import curvature
from jaxnet.arguments import instance_of, positive_integer
from jaxnet.curvature.kronecker import factors_by
from jaxnet.factored import Factored, Stacked, Windows
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.optimizers.preconditioner import blank_factors, factors_of, inverses_of, precondition
from jaxnet.optimizers.quadratic_model import adapted, minimise_model
from jaxnet.parameters import tables_of
from jaxnet.weighting import examples_of


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
    A_de = sum_t F_tdte / tr F, whose product is F where F is a Kronecker product. The rows of an embedding, of which
    there are many, have a diagonal factor: of how often each is looked up, and that of B where the same matrix is also
    used in another way, as by `tied`.

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
      ValueError: when an argument is out of its range; when first updated, if the network has repeated layers or
        convolutions.

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
        factors = jax.tree.map(blank_factors, params, tables_of(net))
        zero = jnp.zeros((), jnp.int32)
        dtype = jax.tree.leaves(params)[0].dtype
        last = jax.tree.map(jnp.zeros_like, params)
        return KfacState(zero, key, factors, factors, last, jnp.asarray(damping, dtype))

    def update(grads, state, params=None, *, x, y, weights=None, value=None, value_fn=None, **_):
        if params is None:
            raise ValueError("kfac: expected update(grads, state, params, x=x, y=y), got no params")
        _refuse_unknown_forms(net, params, x)
        next_key, sample_key = jax.random.split(state.key)
        damping_now = state.damping
        if learning_rate is None and weights is not None:
            damping_now = jnp.maximum(damping_now, least(1 / (weights**2).sum()).astype(damping_now.dtype))

        def renew(factors, _):
            renewals = (state.step // interval + 1).astype(damping_now.dtype)
            share = jnp.minimum(1 - 1 / renewals, decay)
            columns = curvature.sampled(loss, sample_key, samples)
            batch = factors_by(factors_of, "kfac", net, columns, params, x, y, weights)
            factors = jax.tree.map(lambda old, new: share * old + (1 - share) * new, factors, batch)
            return factors, inverses_of(params, factors, damping_now)

        def keep(factors, inverses):
            return factors, inverses

        factors, inverses = lax.cond(state.step % interval == 0, renew, keep, state.factors, state.inverses)
        proposal = jax.tree.map(precondition, grads, inverses)
        if learning_rate is not None:
            rate = learning_rate(state.step) if callable(learning_rate) else learning_rate
            updates = jax.tree.map(
                lambda d, last: jnp.asarray(rate, d.dtype) * d + momentum * last, proposal, state.last
            )
            new_damping = state.damping
        else:
            batch = x, y, weights
            updates, foretold = minimise_model(net, loss, params, batch, grads, (proposal, state.last), damping_now)
            change = value_fn(optax.apply_updates(params, updates)) - value
            new_damping = jnp.maximum(adapted(state.damping, change, foretold), least(batch_size or examples_of(x)))
        return updates, KfacState(state.step + 1, next_key, factors, inverses, updates, new_damping)

    return optax.GradientTransformationExtraArgs(init, update)


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


def _refuse_unknown_forms(net, params, x):
    """A stack of biases has the shape of a weight matrix, and only its gradients' form tells what it is."""

    def refuse(params, x):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, z)
        forms = {type(form) for form in jax.tree.leaves(dparams, is_leaf=_is_form)}
        if Stacked in forms:
            raise ValueError("kfac: expected a network without repeated layers; use chain(*[layer] * n)")
        if Windows in forms:
            raise ValueError("kfac: expected a network without convolutions; curvature.kfac has their factors")

    jax.eval_shape(refuse, params, x)


def _is_form(leaf):
    return isinstance(leaf, Factored)
