"""A trained network in a program: what `jn.load` gives."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import NONSENSE, BadInput, some
from jaxnet.experiment.data.scaling import FARTHEST
from jaxnet.experiment.storage import model, newest
from jaxnet.experiment.storage.folder import RESULT
from jaxnet.experiment.storage.model import Model
from jaxnet.layer import Layer


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A trained network between raw features and predictions, those of `jaxnet predict`.

    Attributes:
      model: the network with its scaling, as a run's folder has it.
      metrics: what result.json holds: the scores of the test part; empty where there is no end yet, or an export.
    """

    model: Model
    metrics: dict[str, Any]

    @property
    def net(self) -> Layer:
        """The network, of scaled examples."""
        return self.model.network.net

    @property
    def params(self) -> Any:
        """Its trained parameters."""
        with jax.enable_x64(self.model.dtype == np.float64):
            return jax.tree.map(jnp.asarray, self.model.params)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names in the order of their probabilities; empty where values are predicted."""
        return self.model.problem.classes

    @property
    def features(self) -> tuple[str, ...]:
        """The columns' names, in the order in which an array has them."""
        return self.model.features

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets' names."""
        return self.model.problem.targets

    def scaled(self, raw: Any) -> np.ndarray:
        """Raw features as `net` takes them, (m, ...), in float64.

        Args:
          raw: examples (m, features), or in the network's own shape; or columns by name, as a DataFrame or a
            dictionary has them, in any order and with others beside them.

        Raises:
          ValueError: saying what was expected instead.
        """
        shape, features = self.model.network.shape, self.model.features
        x = _numbers(_in_order(raw, features))
        if x.shape[1:] not in ((len(features),), shape):
            either = f"(m, {len(features)})" if shape == (len(features),) else f"(m, {len(features)}) or (m, *{shape})"
            raise ValueError(f"predict: expected raw features {either}, got shape {x.shape}")
        x = x.reshape(len(x), len(features))
        if not np.isfinite(x).all():
            row, column = np.argwhere(~np.isfinite(x))[0]
            value = x[row, column]
            raise ValueError(f"predict: expected finite numbers, got {value} in row {row}, {features[column]!r}")
        scaled = self.model.scaling(x)
        if (np.abs(scaled) > FARTHEST).any():
            row, column = np.argwhere(np.abs(scaled) > FARTHEST)[0]
            value = scaled[row, column]
            raise ValueError(
                f"predict: expected numbers up to {FARTHEST:g}, got {value:g} in row {row}, {features[column]!r}"
            )
        return scaled.reshape(len(x), *shape)

    def predict(self, raw: Any) -> np.ndarray:
        """The most probable class of each example, (m,) of names; or values in the targets' units, (m, targets).

        Args:
          raw: as for `scaled`.
        """
        predicted = self.model.predict(self.scaled(raw))
        return np.array(self.classes)[predicted.argmax(axis=1)] if self.classes else predicted

    def predict_proba(self, raw: Any) -> np.ndarray:
        """Every class's probability, (m, classes).

        Args:
          raw: as for `scaled`.

        Raises:
          ValueError: where values are predicted.
        """
        if not self.classes:
            raise ValueError("predict_proba: the network predicts values, and no classes; call predict")
        return self.model.predict(self.scaled(raw))


def load(path: str | os.PathLike[str]) -> Loaded:
    """Reads a run's folder, a checkpoint's, or an exported .npz or .safetensors file.

    Raises:
      BadInput: when it holds no model, or is damaged or of another version.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return Loaded(_exported(place), {})
    return Loaded(model.load(newest.place(place)), _result(place))


def _exported(path):
    if path.suffix == ".npz":
        return model.load_file(path)
    if path.suffix != ".safetensors":
        raise BadInput(
            f"{path}: expected a run's folder, or an exported .npz or .safetensors file; "
            "what `jaxnet export` compiles, jax.export.deserialize reads"
        )
    if not packages.is_there("safetensors"):
        raise BadInput(f"{path}: {packages.missing('safetensors')}")
    from safetensors import safe_open

    try:
        with safe_open(path, "numpy") as file:
            described = json.loads(file.metadata()["jaxnet"])
            return model.assemble(described, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception:  # a damaged file can raise nearly anything
        raise BadInput(f"{path}: is damaged, or of another version of jaxnet; export it again") from None


def _result(folder):
    try:
        return json.loads((folder / RESULT).read_bytes())
    except (OSError, *NONSENSE):
        return {}


def _in_order(raw, features):
    """The columns that the network knows, side by side, of what has them by name; else as it is."""
    names = raw.columns if hasattr(raw, "columns") else raw
    if not hasattr(raw, "columns") and not isinstance(raw, dict):
        return raw
    missing = [name for name in features if name not in names]
    if missing:
        raise ValueError(f"predict: expected the columns of the training data, lacks {some(map(repr, missing), 5)}")
    return np.stack([_numbers(raw[name]) for name in features], axis=1)


def _numbers(raw):
    try:
        x = np.asarray(raw, np.float64)
    except (TypeError, ValueError):
        raise ValueError("predict: expected raw features to be numbers, got others") from None
    return x
