"""The derivative of the outputs themselves, by sending unit vectors back, and the kernel that it makes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from jaxnet import per_example
from jaxnet.arguments import require_examples
from jaxnet.curvature.columns import send_back
from jaxnet.layer import Layer


def jacobian(net: Layer, params: Any, x: PyTree[Array]) -> PyTree[Array]:
    """dz/dparams of every example: a unit vector sent back for each output.

    Args:
      net, params: the network.
      x: m examples.

    Returns:
      The structure of the parameters; a leaf is (m, *outputs, *shape of the parameter), as `jax.jacobian` of
      `net.apply` has it. Cost: a backward pass and a product for each output, and the memory of the outcome.

    Example:
      >>> jax.tree.map(jnp.shape, jn.curvature.jacobian(net, params, x)[0])
      Dense(W=(6, 2, 4, 3), b=(6, 2, 4))
    """
    require_examples("curvature.jacobian", x)
    outputs = _outputs(net, params, x)
    by_output = send_back(net, _units, params, x, None, per_example.each, out_axes=1)
    return jax.tree.map(lambda leaf: _at_outputs(leaf, 1, outputs), by_output)


def neural_tangent_kernel(
    net: Layer, params: Any, x1: PyTree[Array], x2: PyTree[Array] | None = None, *, trace: bool = False
) -> Float[Array, "m n ..."]:
    """The empirical neural tangent kernel: Theta(x, x') = J(x) J(x')^T, summed over all parameters.

    The Jacobians are never formed: for each pair of outputs it is `per_example.gram` of what their unit vectors leave
    at the parameters, (dZ dZ'^T) * (A A'^T) at a weight.

    Args:
      net, params: the network.
      x1: m examples.
      x2: n examples; by default the same as x1.
      trace: whether only the sum over equal outputs is wanted, sum_v <g_v(x), g_v(x')>: an output after the other, so
        that no more than (m, n) numbers are kept, by as many backward passes as there are outputs.

    Returns:
      (m, n, *outputs, *outputs), or its trace over the outputs, (m, n). That, divided by their number, is the kernel
      that is often called the NTK.

    Source: Jacot et al., Neural tangent kernel: convergence and generalization in neural networks, 2018, equation 5;
    Novak et al., Fast finite width neural tangent kernel, 2022.

    Example:
      >>> jn.curvature.neural_tangent_kernel(net, params, x).shape
      (6, 6, 2, 2)
    """
    x2 = x1 if x2 is None else x2
    for x in (x1, x2):
        require_examples("curvature.neural_tangent_kernel", x)
    outputs = _outputs(net, params, x1)
    if trace:
        return _trace(net, params, x1, x2, math.prod(outputs))

    def between(dparams):
        return send_back(net, _units, params, x2, None, lambda d: per_example.gram(dparams, d), out_axes=2)

    kernel = send_back(net, _units, params, x1, None, between, out_axes=2)
    return _at_outputs(_at_outputs(kernel, 3, outputs), 2, outputs)


def _trace(net, params, x1, x2, outputs):
    passes = [net.forward(params, x) for x in (x1, x2)]

    def of_output(v):
        each = (net.backward(params, cache, _unit(z, v))[0] for z, cache in passes)
        return per_example.gram(*each)

    first = of_output(jnp.zeros((), jnp.int32))
    total, _ = lax.scan(lambda total, v: (total + of_output(v), None), first, jnp.arange(1, outputs, dtype=jnp.int32))
    return total


def _units(z, y):
    """e_v for every output v, the same for all examples: (v, m, *outputs)."""
    units = jnp.eye(math.prod(z.shape[1:]), dtype=z.dtype).reshape(-1, 1, *z.shape[1:])
    return units * jnp.ones_like(z)[None]


def _unit(z, v):
    """e_v for one output, the same for all examples."""
    units = jnp.arange(math.prod(z.shape[1:]), dtype=jnp.int32) == v
    return jnp.where(units.reshape(1, *z.shape[1:]), jnp.ones_like(z), jnp.zeros_like(z))


def _at_outputs(values, axis, outputs):
    """An axis of all outputs as those that the outputs have."""
    sharding = jax.typeof(values).sharding
    spec = (*sharding.spec, *(None,) * (values.ndim - len(sharding.spec)))
    layout = NamedSharding(sharding.mesh, PartitionSpec(*spec[:axis], *(None,) * len(outputs), *spec[axis + 1 :]))
    shape = (*values.shape[:axis], *outputs, *values.shape[axis + 1 :])
    return jnp.reshape(values, shape, out_sharding=layout)


def _outputs(net, params, x):
    return jax.eval_shape(net.apply, params, x).shape[1:]
