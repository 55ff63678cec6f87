"""The negative log-likelihood of counts whose mean is e^z."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.losses.loss import Loss, Outputs, Targets
from jaxnet.losses.targets import like_outputs
from jaxnet.losses.terms import diagonal_root, sum_by_example


def poisson_nll_loss_forward(z: Outputs, y: Targets) -> Float[Array, " m"]:
    """L = sum_k e^(z_k) - y_k z_k."""
    z, y = like_outputs("poisson_nll_loss", z, y)
    # 0 log 0 = 0: a mean of 0, by an output of -inf, where nothing was counted.
    return sum_by_example(jnp.exp(z) - y * jnp.where((y == 0) & jnp.isinf(z), 0, z))


def poisson_nll_loss_backward(z: Outputs, y: Targets) -> Outputs:
    """dz = e^z - y."""
    z, y = like_outputs("poisson_nll_loss", z, y)
    return jnp.exp(z) - y


def poisson_nll_loss_root_hessian(z: Outputs, y: Targets) -> Float[Array, "v m *f"]:
    """d2L/dz2 = diag(e^z), so S_v = e^(z_v / 2) e_v."""
    z, _ = like_outputs("poisson_nll_loss", z, y)
    return diagonal_root(jnp.exp(z / 2))


def poisson_nll_loss_sample(key: jax.Array, z: Outputs) -> Outputs:
    """y ~ Poisson(e^z)."""
    return jax.random.poisson(key, jnp.exp(z)).astype(z.dtype)


poisson_nll_loss = Loss(
    poisson_nll_loss_forward,
    poisson_nll_loss_backward,
    poisson_nll_loss_root_hessian,
    poisson_nll_loss_sample,
)
"""Counts, from the logarithm z of their mean: L = sum_k e^(z_k) - y_k z_k; dz = e^z - y.

y has z's shape, with values of at least 0; others are refused where values are known, so not under jit. The logarithm
of y!, which does not depend on z, is left out. e^z overflows float32 from z = 88.7 on.
Source: `torch.nn.PoissonNLLLoss` at its defaults, summed over outputs.
"""
