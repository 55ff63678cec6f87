"""`--model transformer`: a decoder that tells of each token of a text which one follows."""

import dataclasses
from typing import Literal

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.networks.architecture import Architecture, register
from jaxnet.experiment.networks.text import TextOptions, as_tokens, built, counted, told
from jaxnet.layer import Layer
from jaxnet.networks import transformer


@dataclasses.dataclass(frozen=True)
class TransformerOptions(TextOptions):
    """The options of a transformer."""

    heads: int = 4
    """Of transformer's attention, a divisor of --width."""
    positions: Literal["learnt", "rotary"] = "learnt"
    """How transformer knows a token's place: by a vector for each place, learnt; or rotary, by turned queries and
    keys."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads < 1:
            raise BadInput(f"--heads: expected an integer of at least 1, got {self.heads}")


def _build(options: TransformerOptions, shape: tuple[int, ...], outputs: int, output_activation: str) -> Layer:
    def make():
        return transformer(
            outputs,
            width=options.width,
            heads=options.heads,
            depth=options.depth,
            length=shape[0],
            dropout=options.dropout,
            tied=options.tied,
            positions=options.positions,
        )

    return built(make)


def _described(options, shape, outputs):
    blocks = f"{counted(options.depth, 'block')} of {counted(options.heads, 'head')}, width {options.width}"
    return f"{outputs} tokens, {blocks}, {options.positions} positions, {told(options)}"


TRANSFORMER = register(Architecture("transformer", TransformerOptions, _build, _described, as_tokens, ids=True))
