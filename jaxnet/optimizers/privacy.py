"""The noise of differentially private gradient descent, which comes from optax."""

import math

import jax
import jax.numpy as jnp
import optax


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
