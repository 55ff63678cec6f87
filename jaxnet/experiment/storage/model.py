"""A trained network with all that is needed to use it: scaling, names, architecture."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.experiment.data.encoding import Treatment
from jaxnet.experiment.data.image_form import ImageForm
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.scaling import Scaling
from jaxnet.experiment.data.split import FRACTIONS
from jaxnet.experiment.data.tokens import Tokens
from jaxnet.experiment.networks.network import Network


class Origin(NamedTuple):
    """What a network was trained on, so that its parts are known again.

    Attributes:
      data: the data's SHA-256, see `fingerprint.fingerprint`.
      streamed: whether that is of some rows only.
      seed: which rows were the training, the validation and the test part.
      validation, test: the shares of rows that were drawn for these parts; None where they were files of their own.
      group: the column that says which rows belong together, if any.
      weights: the column of what each example counts, if any.
    """

    data: str
    streamed: bool
    seed: int
    validation: float | None = FRACTIONS.validation
    test: float | None = FRACTIONS.test
    group: str | None = None
    weights: str | None = None


class Model(NamedTuple):
    """A network and its parameters between raw features and predictions.

    Attributes:
      network: how it is built.
      params: trained parameters.
      scaling: of the features.
      problem: what its outputs mean.
      features: the names of what it takes, in order.
      origin: what it was trained on.
      treatments: how the columns of a file become that; empty for other data.
      left_out: columns that a file may have besides.
      tokens: of the text that it was trained on; None for other data.
      form: of the folder of images that it was trained on; None for other data.
    """

    network: Network
    params: Any
    scaling: Scaling
    problem: Problem
    features: tuple[str, ...]
    origin: Origin
    treatments: tuple[Treatment, ...] = ()
    left_out: tuple[str, ...] = ()
    tokens: Tokens | None = None
    form: ImageForm | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it expects, in order."""
        return tuple(treatment.name for treatment in self.treatments) or self.features

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the parameters, and of what the network takes."""
        return np.dtype(jax.tree.leaves(self.params)[0].dtype)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """From scaled examples (m, ...) to probabilities (m, classes or labels) or values (m, targets).

        Of ids (m, t) to the probabilities of what follows each of them, (m, t, tokens).
        """
        dtype = self.network.inputs(1, self.dtype).dtype
        with jax.enable_x64(self.dtype == np.float64):
            return self.problem.predict(jax.jit(self.network.net.apply)(self.params, x.astype(dtype)))
