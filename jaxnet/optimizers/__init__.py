"""Optimizers that take from the backward pass more than its gradient, for use with optax and in its place."""

from jaxnet.optimizers.kronecker_factored import KfacState, kfac
from jaxnet.optimizers.privacy import private_noise

__all__ = [
    "KfacState",
    "kfac",
    "private_noise",
]


def __dir__() -> list[str]:
    return __all__
