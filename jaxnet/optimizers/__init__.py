"""Optimizers that take from the backward pass more than its gradient, for use with optax and in its place.

Example:
  What the examples of its functions begin with, after `help(jaxnet)`.

  >>> net, loss = jn.mlp((3, 4, 2), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
  >>> params, x, y = net.init(key), jax.random.normal(key, (6, 3)), jnp.array([0, 0, 1, 0, 0, 0])
"""

from jaxnet.optimizers.kronecker_factored import KfacState, kfac
from jaxnet.optimizers.privacy import private_noise

__all__ = [
    "KfacState",
    "kfac",
    "private_noise",
]


def __dir__() -> list[str]:
    return __all__
