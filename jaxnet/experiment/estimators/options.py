"""The options of an estimator: those of `jaxnet train`, under scikit-learn's conventions."""

import re
from typing import Any

import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.parse import require_types
from jaxnet.experiment.options.train_config import TrainConfig

# Of an estimator's parameters, those that `jaxnet train` has too, with the same meaning.
SHARED = (
    "hidden",
    "activation",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "epochs",
    "early_stopping",
    "scale",
)


def config_of(estimator: Any, x: np.ndarray) -> TrainConfig:
    """What `jaxnet train` would have for options.

    Args:
      estimator: its parameters are looked at.
      x: its data, whose type decides where `dtype` is None.

    Raises:
      ValueError: when one of them cannot be.
    """
    from sklearn.utils import check_random_state

    told = {name: _plain(getattr(estimator, name)) for name in SHARED}
    told["dtype"] = str(x.dtype) if estimator.dtype is None else estimator.dtype
    seed = _plain(estimator.random_state)
    told["seed"] = seed if isinstance(seed, int) else int(check_random_state(seed).randint(2**31 - 1))
    try:
        require_types(TrainConfig, told)
        return TrainConfig(**told)
    except (BadInput, TypeError) as error:
        raise ValueError(f"{type(estimator).__name__}: {_as_parameters(str(error))}") from None


def _plain(value):
    """As Python has it: grids are often arrays, of which each value is one of NumPy's."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple, np.ndarray)) else value


def _as_parameters(message):
    message = re.sub(r"--([a-z-]+)", lambda option: option[1].replace("-", "_"), message)
    return re.sub(r"^seed\b", "random_state", message)
