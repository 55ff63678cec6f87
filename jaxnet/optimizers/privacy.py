"""The noise of differentially private gradient descent, made of optax's."""

import math

import jax
import jax.numpy as jnp
import optax

# Normal numbers that each number of the noise is the sum of.
DRAWS = 4


def private_noise(
    max_norm: float, noise_multiplier: float, batch_size: int | float, key: jax.Array | None = None
) -> optax.GradientTransformation:
    """The noise of differentially private SGD, for gradients read by `per_example.clipped(max_norm, batch_size)`.

    g + N(0, (noise_multiplier max_norm / batch_size)^2) for every parameter, by `optax.add_noise`. Each number is the
    sum of four: a normal number of float32 has few digits far out, none beyond 5.4 deviations, and the last bits of
    what it was added to may tell which one it was; the sum reaches twice as far, and its parts are not to be found out.

    Put it before an optimizer with `optax.chain`, and take the gradient with the same B = batch_size by
    `value_and_grad(net, loss, read=per_example.clipped(C, B, drop_not_finite=True))`: without B, the examples of a
    smaller batch count for more than the noise allows. What privacy that buys is for an accountant to say, for example
    (package dp-accounting)

        event = dp_event.SelfComposedDpEvent(
            dp_event.PoissonSampledDpEvent(batch_size / examples, dp_event.GaussianDpEvent(noise_multiplier)), steps)
        epsilon = rdp.RdpAccountant().compose(event).get_epsilon(delta)

    which supposes batches drawn at random, each example by itself, as `jaxnet.poisson_batches` are; `make_epoch`
    shuffles instead. Only the gradients are protected: not the losses that are printed, nor what else is taken from the
    data, such as means to standardise by.

    Args:
      max_norm: C, to which each example's gradient is clipped, positive and finite; where its parts are clipped by
        themselves, to C_1, C_2, ..., it is sqrt(C_1^2 + C_2^2 + ...).
      noise_multiplier: the noise's standard deviation on the sum of the clipped gradients, in units of C, at least 0.
      batch_size: what the sum of the clipped gradients is divided by, at least 1, for batches of any size.
      key: of the noise; `jax.random.key(0)` by default. Who knows it can take the noise away again: for privacy draw it
        from the system's entropy, all 64 bits, and keep it and the optimizer's state, which holds it, as secret as the
        data.

    Raises:
      ValueError: when an argument is out of its range.

    Source: Abadi et al., Deep learning with differential privacy, 2016, algorithm 1; for sums of draws, Holohan and
    Braghin, Secure random sampling in differential privacy, 2021.

    Example:
      >>> C, B = 1.0, 6
      >>> optimizer = optax.chain(jn.optimizers.private_noise(C, 1.1, B, key), optax.sgd(0.1))
      >>> gradient = jn.value_and_grad(net, loss, read=jn.per_example.clipped(C, B, drop_not_finite=True))
      >>> J, grads = gradient(params, x, y)
      >>> updates, opt_state = optimizer.update(grads, optimizer.init(params))
      >>> jax.tree.map(jnp.shape, updates[0])
      Dense(W=(4, 3), b=(4,))
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
        zeros, draws = jax.tree.map(jnp.zeros_like, grads), []
        for _ in range(DRAWS):
            normal, state = noise.update(zeros, state, params)
            draws.append(normal)
        each = deviation / DRAWS**0.5
        return jax.tree.map(lambda g, *normals: g + each * sum(normals[1:], start=normals[0]), grads, *draws), state

    return optax.GradientTransformation(noise.init, update)
