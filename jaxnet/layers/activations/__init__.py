"""The nonlinear part of a layer of neurons: a = g(z), element by element, with dz = da * g'(z).

Where g is curved, `second` is da * g''(z), which only the Hessian's diagonal asks for.
"""

from jaxnet.layers.activations.bounded import hard_tanh, softsign
from jaxnet.layers.activations.exponential import elu, log_sigmoid, selu
from jaxnet.layers.activations.of_output import identity, leaky_relu, relu, sigmoid, softplus, tanh
from jaxnet.layers.activations.self_gated import gelu, gelu_tanh, silu

__all__ = [
    "elu",
    "gelu",
    "gelu_tanh",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
]


def __dir__() -> list[str]:
    return __all__
