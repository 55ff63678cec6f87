"""The oracle: a hand-derived backward pass is right if it is what automatic differentiation finds, and more besides.

The only core package that calls `jax.vjp` and `jax.grad`. `check_layer`, `check_loss` and `check_network` are for what
is built from this library's parts, yours as well as ours; `check_vjp` is for any function with a hand-written rule.
"""

from jaxnet.testing.functions import check_vjp
from jaxnet.testing.layers import check_layer
from jaxnet.testing.losses import check_loss
from jaxnet.testing.networks import check_network

__all__ = ["check_layer", "check_loss", "check_network", "check_vjp"]


def __dir__() -> list[str]:
    return __all__
