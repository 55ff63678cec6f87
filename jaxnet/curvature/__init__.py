"""What to send back instead of the gradient, and what to read of it: Fisher, Gauss-Newton, Hessian, Jacobian.

m examples x, y; the loss is their mean. Diagonals have the structure of the parameters, Kronecker factors too.

Example:
  What the examples of its functions begin with, after `help(jaxnet)`.

  >>> net, loss = jn.mlp((3, 4, 2), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
  >>> params, x, y = net.init(key), jax.random.normal(key, (6, 3)), jnp.array([0, 0, 1, 0, 0, 0])
  >>> J, grads = jn.value_and_grad(net, loss)(params, x, y)
"""

from jaxnet.curvature.columns import empirical, exact, sampled, send_back
from jaxnet.curvature.conjugate import conjugate_gradients
from jaxnet.curvature.diagonals import (
    diagonal,
    fisher_diagonal,
    ggn_blocks,
    ggn_diagonal,
    ggn_diagonal_per_example,
    ggn_diagonal_sampled,
)
from jaxnet.curvature.eigen import Eigen, ekfac
from jaxnet.curvature.hessian import hessian_diagonal, hessian_diagonal_per_example
from jaxnet.curvature.inverse import eigen, power, solve
from jaxnet.curvature.jacobians import jacobian, neural_tangent_kernel
from jaxnet.curvature.kfra import kfra
from jaxnet.curvature.kronecker import kfac, kflr, kronecker
from jaxnet.curvature.products import fisher_vector_product, ggn_vector_product, hessian_vector_product
from jaxnet.curvature.spectrum import Spectrum, spectrum, trace
from jaxnet.factored import Diagonal

__all__ = [
    "Diagonal",
    "Eigen",
    "Spectrum",
    "conjugate_gradients",
    "diagonal",
    "eigen",
    "ekfac",
    "empirical",
    "exact",
    "fisher_diagonal",
    "fisher_vector_product",
    "ggn_blocks",
    "ggn_diagonal",
    "ggn_diagonal_per_example",
    "ggn_diagonal_sampled",
    "ggn_vector_product",
    "hessian_diagonal",
    "hessian_diagonal_per_example",
    "hessian_vector_product",
    "jacobian",
    "kfac",
    "kflr",
    "kfra",
    "kronecker",
    "neural_tangent_kernel",
    "power",
    "sampled",
    "send_back",
    "solve",
    "spectrum",
    "trace",
]


def __dir__() -> list[str]:
    return __all__
