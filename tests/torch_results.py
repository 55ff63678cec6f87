"""Layers against PyTorch's own, by the numbers that `by_torch.py` has written down."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

RESULTS = json.loads((Path(__file__).parent / "by_torch.json").read_text())


def assert_as_torch(name, layer):
    """Forward and backward of a layer without parameters, in float64."""
    inputs, gradients = ([jnp.asarray(leaf) for leaf in RESULTS[name][what]] for what in ("inputs", "gradients"))
    y, cache = layer.forward((), inputs[0] if len(inputs) == 1 else tuple(inputs))
    _, dx = layer.backward((), cache, jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))
    np.testing.assert_allclose(y, RESULTS[name]["y"], rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(jax.tree.leaves(dx), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
