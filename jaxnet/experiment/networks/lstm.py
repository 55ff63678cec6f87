"""`--model lstm`: long short-term memory that tells of each token of a text which one follows."""

import dataclasses

from jaxnet.experiment.networks.architecture import Architecture, register
from jaxnet.experiment.networks.recurrence import described, over_time
from jaxnet.experiment.networks.text import TextOptions, as_tokens
from jaxnet.layer import Layer
from jaxnet.layers.lstm import lstm


@dataclasses.dataclass(frozen=True)
class LstmOptions(TextOptions):
    """The options of long short-term memory: those of every network for text."""


def _build(options: LstmOptions, shape: tuple[int, ...], outputs: int, output_activation: str) -> Layer:
    return over_time(lstm, options, outputs)


LSTM = register(Architecture("lstm", LstmOptions, _build, described, as_tokens, ids=True))
