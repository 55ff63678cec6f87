"""The derivative of the outputs themselves, by sending unit vectors back, and the kernel that it makes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet import per_example
from jaxnet.arguments import require_examples
from jaxnet.curvature.columns import send_back
from jaxnet.layer import Layer
from jaxnet.weighting import examples_of


def jacobian(net: Layer, params: Any, x: PyTree[Array]) -> PyTree[Array]:
    """dz/dparams of every example: a unit vector sent back for each output.

    Args:
      net, params: the network.
      x: m examples.

    Returns:
      The structure of the parameters; a leaf is (m, *outputs, *shape of the parameter), as `jax.jacobian` of
      `net.apply` has it. Cost: a backward pass and a product for each output, and the memory of the outcome.
    """
    require_examples("curvature.jacobian", x)
    outputs = _outputs(net, params, x)
    by_output = send_back(net, _units, params, x, None, per_example.each, out_axes=1)
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], *outputs, *leaf.shape[2:]), by_output)


def neural_tangent_kernel(
    net: Layer, params: Any, x1: PyTree[Array], x2: PyTree[Array] | None = None
) -> Float[Array, "m n ..."]:
    """The empirical neural tangent kernel: Theta(x, x') = J(x) J(x')^T, summed over all parameters.

    The Jacobians are never formed: for each pair of outputs it is `per_example.gram` of what their unit vectors leave
    at the parameters, (dZ dZ'^T) * (A A'^T) at a weight.

    Args:
      net, params: the network.
      x1: m examples.
      x2: n examples; by default the same as x1.

    Returns:
      (m, n, *outputs, *outputs). Its trace over the outputs, divided by their number, is the kernel that is often
      called the NTK.

    Source: Jacot et al., Neural tangent kernel: convergence and generalization in neural networks, 2018, equation 5;
    Novak et al., Fast finite width neural tangent kernel, 2022.
    """
    x2 = x1 if x2 is None else x2
    for x in (x1, x2):
        require_examples("curvature.neural_tangent_kernel", x)
    outputs = _outputs(net, params, x1)

    def between(dparams):
        return send_back(net, _units, params, x2, None, lambda d: per_example.gram(dparams, d), out_axes=2)

    kernel = send_back(net, _units, params, x1, None, between, out_axes=2)
    return kernel.reshape(examples_of(x1), examples_of(x2), *outputs, *outputs)


def _units(z, y):
    """e_v for every output v, the same for all examples: (v, m, *outputs)."""
    units = jnp.eye(math.prod(z.shape[1:]), dtype=z.dtype).reshape(-1, 1, *z.shape[1:])
    return units * jnp.ones_like(z)[None]


def _outputs(net, params, x):
    return jax.eval_shape(net.apply, params, x).shape[1:]
