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
from jaxnet.experiment.console.errors import NONSENSE, BadInput
from jaxnet.experiment.data import raw_examples
from jaxnet.experiment.data.problem import LIKELY
from jaxnet.experiment.data.scaling import FARTHEST
from jaxnet.experiment.storage import model_file, newest
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
            return raw_examples.ids(raw, len(self.classes), self.model.network.shape[0])
        x = raw_examples.features(raw, self.model.columns, self.model.treatments)
        shape, features = self.model.network.shape, self.model.features
        if x.shape[1:] not in ((len(features),), shape):
            either = f"(m, {len(features)})" if shape == (len(features),) else f"(m, {len(features)}) or (m, *{shape})"
            raise ValueError(f"predict: expected raw features {either}, got shape {x.shape}")
        x = x.reshape(len(x), len(features))
        raw_examples.require(np.isfinite(x), x, features, "finite numbers")
        scaled = self.model.scaling(x)
        raw_examples.require(np.abs(scaled) <= FARTHEST, scaled, features, f"numbers up to {FARTHEST:g}")
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
    return Loaded(model_file.load(newest.place(place)), _result(place))


def _exported(path):
    if path.suffix == ".npz":
        return model_file.load_file(path)
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
            return model_file.assemble(described, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception:  # a damaged file can raise nearly anything
        raise BadInput(f"{path}: is damaged, or of another version of jaxnet; export it again") from None


def _result(folder):
    try:
        return json.loads((folder / RESULT).read_bytes())
    except (OSError, *NONSENSE):
        return {}
