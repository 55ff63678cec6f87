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
from jaxnet.experiment.data.columns import Odd, Written, interpreted
from jaxnet.experiment.data.problem import LIKELY
from jaxnet.experiment.data.scaling import FARTHEST
from jaxnet.experiment.storage import model, newest
from jaxnet.experiment.storage.folder import RESULT
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.storage.written import ids_of, written
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
        """The classes' names in the order of their probabilities; empty where labels or values are predicted."""
        return self.model.problem.classes

    @property
    def features(self) -> tuple[str, ...]:
        """The columns' names, in the order in which an array has them."""
        return self.model.columns

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets' names."""
        return self.model.problem.targets

    def scaled(self, raw: Any) -> np.ndarray:
        """Raw features as `net` takes them, (m, ...), in float64; ids of a text as they are.

        Args:
          raw: examples (m, columns), or in the network's own shape; or columns by name, as a DataFrame or a dictionary
            has them, in any order and with others beside them. Columns that were texts, dates or yes and no in the
            file of training are so here.

        Raises:
          ValueError: saying what was expected instead.
        """
        if self.model.tokens is not None:
            return _ids(raw, len(self.classes), self.model.network.shape[0])
        raw = _in_order(raw, self.model.columns)
        x = _numbers(raw) if not self.model.treatments else _encoded(raw, self.model.treatments)
        shape, features = self.model.network.shape, self.model.features
        if x.shape[1:] not in ((len(features),), shape):
            either = f"(m, {len(features)})" if shape == (len(features),) else f"(m, {len(features)}) or (m, *{shape})"
            raise ValueError(f"predict: expected raw features {either}, got shape {x.shape}")
        x = x.reshape(len(x), len(features))
        _require(np.isfinite(x), x, features, "finite numbers")
        scaled = self.model.scaling(x)
        _require(np.abs(scaled) <= FARTHEST, scaled, features, f"numbers up to {FARTHEST:g}")
        return scaled.reshape(len(x), *shape)

    def predict(self, raw: Any) -> np.ndarray:
        """The most probable class of each example, (m,) of names; or values in the targets' units, (m, targets).

        Of labels, which of them apply, (m, targets) of 0 and 1. Of ids (m, t) of a text, the most probable token behind
        each of them, (m, t).

        Args:
          raw: as for `scaled`.
        """
        predicted = self.model.predict(self.scaled(raw))
        if self.model.problem.labels:
            return (predicted >= LIKELY).astype(int)
        return np.array(self.classes)[predicted.argmax(axis=-1)] if self.classes else predicted

    def predict_proba(self, raw: Any) -> np.ndarray:
        """Every class's probability, (m, classes), or every label's, (m, targets).

        Of a text that of each token behind each id, (m, t, tokens).

        Args:
          raw: as for `scaled`.

        Raises:
          ValueError: where values are predicted.
        """
        if self.model.problem.regression:
            raise ValueError("predict_proba: the network predicts values, and no classes; call predict")
        return self.model.predict(self.scaled(raw))

    def generate(
        self, prompt: str = "", length: int = 500, *, temperature: float = 1.0, top_k: int | None = None, seed: int = 0
    ) -> str:
        """The text that a network of text writes after a prompt, as `jaxnet generate` prints it.

        Args:
          prompt: the text to go on from; by default the end of a line.
          length: how many tokens to write.
          temperature: below 1 what is probable becomes more so; with 0 the most probable token is taken.
          top_k: how many of the most probable tokens are drawn from; None for all.
          seed: of what is drawn.

        Raises:
          ValueError: when the network learnt no text, the prompt has a character that it did not learn, or a number is
            out of its range.
        """
        try:
            pieces = written(self.model, prompt, length, temperature=temperature, top_k=top_k, seed=seed)
            return "".join(pieces)
        except BadInput as error:
            raise ValueError(f"generate: {str(error).removeprefix('--')}") from None

    def encode(self, text: str) -> np.ndarray:
        """The ids (t,) of a text's tokens, by those of the run.

        Raises:
          ValueError: when the network learnt no text, or the text has a character that it did not learn.
        """
        if self.model.tokens is None:
            raise ValueError("encode: the network learnt no text; call predict with features")
        try:
            return ids_of(self.model.tokens, text).astype(np.int32)
        except BadInput as error:
            raise ValueError(f"encode: {str(error).removeprefix('--prompt: ')}") from None


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


def _ids(raw, tokens, context):
    """Ids (m, t) of a text, once they are known to be such."""
    ids = np.asarray(raw)
    if ids.dtype.kind not in "iu" or ids.ndim != 2 or not 1 <= ids.shape[1] <= context:
        expected = f"ids (m, t) of whole numbers, with t from 1 to {context}"
        raise ValueError(
            f"predict: expected {expected}, got {ids.dtype} of shape {ids.shape}; encode makes them of text"
        )
    if ids.size and not 0 <= ids.min() <= ids.max() < tokens:
        raise ValueError(f"predict: expected ids from 0 to {tokens - 1}, got {ids.min()} to {ids.max()}")
    return ids


def _result(folder):
    try:
        return json.loads((folder / RESULT).read_bytes())
    except (OSError, *NONSENSE):
        return {}


def _in_order(raw, names):
    """The columns that the network knows, side by side, of what has them by name; else as it is."""
    if not hasattr(raw, "columns") and not isinstance(raw, dict):
        return raw
    missing = [name for name in names if name not in (raw.columns if hasattr(raw, "columns") else raw)]
    if missing:
        raise ValueError(f"predict: expected the columns of the training data, lacks {some(map(repr, missing), 5)}")
    return np.stack([np.asarray(raw[name], object) for name in names], axis=1)


def _encoded(raw, treatments):
    """(m, features) of columns (m, columns) of whatever they hold."""
    cells = np.asarray(raw, object)
    if cells.ndim != 2 or cells.shape[1] != len(treatments):
        raise ValueError(f"predict: expected raw columns (m, {len(treatments)}), got shape {cells.shape}")
    made = []
    for treatment, of_column in zip(treatments, cells.T, strict=True):
        texts, places = np.unique([_text(cell) for cell in of_column], return_inverse=True)
        held = interpreted(Written(treatment.name, texts.tolist(), places), treatment.kind, decimal_comma=False)
        if isinstance(held, Odd):
            row, name = held.rows[0], held.column
            raise ValueError(f"predict: expected {held.expected}, got {held.shown[0]} in row {row}, {name!r}")
        made.append(treatment(*held))
    return np.concatenate(made, axis=1)


def _text(cell):
    """As a file has it: numbers with all their digits, True as yes."""
    if cell is None:
        return ""
    if isinstance(cell, (bool, np.bool_)):
        return "yes" if cell else "no"
    return repr(float(cell)) if isinstance(cell, (float, np.floating)) else str(cell).strip()


def _require(fits, values, features, expected):
    if not fits.all():
        row, column = np.argwhere(~fits)[0]
        value = values[row, column]
        raise ValueError(f"predict: expected {expected}, got {value:g} in row {row}, {features[column]!r}")


def _numbers(raw):
    try:
        return np.asarray(raw, np.float64)
    except (TypeError, ValueError):
        raise ValueError("predict: expected raw features to be numbers, got others") from None
