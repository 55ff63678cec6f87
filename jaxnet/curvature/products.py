"""Curvature matrices times a vector, without the matrix: v and the outcome have the structure of the parameters."""

from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from jaxnet import gradient, per_example
from jaxnet.arguments import require_examples
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.weighting import examples_of, rows_that_count, weighted


def ggn_vector_product(
    net: Layer,
    loss: Loss,
    params: Any,
    x: PyTree[Array],
    y: Any,
    v: PyTree[Array],
    weights: Float[Array, " m"] | None = None,
) -> PyTree[Array]:
    """G v with the generalised Gauss-Newton matrix G = (1/m) sum_n J_n^T (d2L_n/dz2) J_n.

    From right to left: J v by `jax.jvp` of forward, the loss's Hessian times that by `jax.jvp` of the loss's backward,
    and J^T of that is a backward pass. Cost: about two gradients.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.
      v: the structure and shapes of the parameters.
      weights: (m,), in place of 1/m for each example, as for `value_and_grad`: of either sign, and a zero leaves the
        example out.

    Returns:
      G v, the structure and shapes of the parameters.

    Source: Schraudolph, Fast curvature matrix-vector products for second-order gradient descent, 2002.

    Example:
      >>> product = jn.curvature.ggn_vector_product(net, loss, params, x, y, grads)
      >>> bool(sum((leaf * v).sum() for leaf, v in zip(jax.tree.leaves(product), jax.tree.leaves(grads))) > 0)
      True
    """
    require_examples("curvature.ggn_vector_product", x)
    x, y = rows_that_count("curvature.ggn_vector_product", weights, x, y)
    z, jv, cache = jax.jvp(lambda params: net.forward(params, x), (params,), (v,), has_aux=True)
    _, hjv = jax.jvp(lambda z: loss.backward(z, y), (z,), (jv,))
    dparams, _ = net.backward(params, cache, hjv)
    return per_example.mean(dparams) if weights is None else per_example.total(dparams, weights)


def hessian_vector_product(
    net: Layer,
    loss: Loss,
    params: Any,
    x: PyTree[Array],
    y: Any,
    v: PyTree[Array],
    weights: Float[Array, " m"] | None = None,
) -> PyTree[Array]:
    """H v with the Hessian of the mean loss, by `jax.jvp` of our own gradient. Cost: about two gradients.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.
      v: the structure and shapes of the parameters.
      weights: as for `ggn_vector_product`.

    Returns:
      H v, the structure and shapes of the parameters.

    Source: Pearlmutter, Fast exact multiplication by the Hessian, 1994.

    Example:
      >>> product = jn.curvature.hessian_vector_product(net, loss, params, x, y, grads)
      >>> jax.tree.map(jnp.shape, product[0])
      Dense(W=(4, 3), b=(4,))
    """
    require_examples("curvature.hessian_vector_product", x)
    x, y = rows_that_count("curvature.hessian_vector_product", weights, x, y)

    def mean_gradient(params):
        _, grads = gradient.value_and_grad(net, loss)(params, x, y, weights)
        return grads

    _, hv = jax.jvp(mean_gradient, (params,), (v,))
    return hv


def fisher_vector_product(
    net: Layer,
    loss: Loss,
    params: Any,
    x: PyTree[Array],
    y: Any,
    v: PyTree[Array],
    weights: Float[Array, " m"] | None = None,
) -> PyTree[Array]:
    """F v with the empirical Fisher matrix F = (1/m) sum_n g_n g_n^T of the gradients at the labels given.

    F v = (1/m) sum_n <g_n, v> g_n: a dot for each example, then a total with the dots as weights. With labels drawn
    from the model, `y = loss.sample(key, net.apply(params, x))`, it estimates the Fisher matrix's product. Cost: a
    gradient and two products of matrices a weight.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples and their labels.
      v: the structure and shapes of the parameters.
      weights: as for `ggn_vector_product`.

    Returns:
      F v, the structure and shapes of the parameters.

    Example:
      >>> product = jn.curvature.fisher_vector_product(net, loss, params, x, y, grads)
      >>> jax.tree.map(jnp.shape, product[0])
      Dense(W=(4, 3), b=(4,))
    """
    require_examples("curvature.fisher_vector_product", x)
    x, y = rows_that_count("curvature.fisher_vector_product", weights, x, y)
    z, cache = net.forward(params, x)
    dparams, _ = net.backward(params, cache, loss.backward(z, y))
    dots = per_example.dot(dparams, v)
    return per_example.total(dparams, dots / examples_of(x) if weights is None else weighted(weights, dots))
