"""The networks that are trained, a file each: what is drawn for it, what it costs, and how each package builds it.

A file has these functions; those of a package import it, and nothing else does.

    draw(net, rng)          parameters, x and y, with NumPy
    products(net)           operations of each product of matrices and convolution of the forward pass, in order
    by_jaxnet(problem)      (layer, arrays): the `Layer`, and its parameters in the order of its own
    by_jax(problem)         (apply, params): the plain program of JAX's own functions, `apply(params, x) -> z`
    by_haiku(problem)       the function that `hk.transform` takes
    by_flax(problem)        an `nnx.Module`
    by_equinox(problem)     (model, x): an `eqx.Module` for one example, and the batches as it takes them
    by_torch(problem)       (model, x): an `nn.Module`, and the batches as it takes them
"""

import importlib
from typing import Any, Literal

Kind = Literal["dense", "cnn", "resnet", "nanogpt", "gru"]


def of(net: Any) -> Any:
    """The network's file."""
    return importlib.import_module(f"benchmarks.contest.networks.{net.kind}")
