"""`--model gru`: gated recurrent units that tell of each token of a text which one follows."""

import dataclasses

from jaxnet.experiment.networks.architecture import Architecture, register
from jaxnet.experiment.networks.recurrence import described, over_time
from jaxnet.experiment.networks.text import TextOptions, as_tokens
from jaxnet.layer import Layer
from jaxnet.layers.gru import gru


@dataclasses.dataclass(frozen=True)
class GruOptions(TextOptions):
    """The options of gated recurrent units: those of every network for text."""


def _build(options: GruOptions, shape: tuple[int, ...], outputs: int, output_activation: str) -> Layer:
    return over_time(gru, options, outputs)


GRU = register(Architecture("gru", GruOptions, _build, described, as_tokens, ids=True))
