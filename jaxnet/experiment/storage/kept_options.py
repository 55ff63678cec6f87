"""What a run's config.json says of its options, and of the versions that compute its numbers."""

import os
import platform
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

import jaxnet
from jaxnet.experiment.data.named import NAMES
from jaxnet.experiment.data.texts import PYTHON_DOCS


def kept(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as config.json has them: data on disk by the whole path, which any working directory finds."""
    sources = {name: options[name] for name in ("data", "validation", "test") if options[name] is not None}
    known = (*NAMES, PYTHON_DOCS)
    return {**options} | {name: at if at in known else os.path.abspath(at) for name, at in sources.items()}


def versions() -> dict[str, str]:
    """Of what computes a run's numbers, as it goes on with them."""
    return {
        "jaxnet": jaxnet.__version__,
        "jax": jax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
