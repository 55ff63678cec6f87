"""What networks for text have in common: what they see of it at a time, and in which pieces it comes."""

import dataclasses
from typing import Any

from jaxnet.experiment.console.errors import BadInput, option
from jaxnet.layer import Layer

LARGEST = 2**20


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """The options of every network for text."""

    tokens: str = "characters"
    """What a text is cut into: characters; bytes; or the pieces of a tokenizer, a .json file as the package tokenizers
    writes it."""
    context: int = 64
    """How many tokens a network sees at a time in training: each example is so many of them, and those that follow."""
    width: int = 128
    """Features of each token: of the embedding, and of transformer's blocks or gru's and lstm's states."""
    depth: int = 4
    """How many blocks of transformer, or layers of gru and lstm, are one on the other."""
    dropout: float = 0.0
    """The rate at which inputs of cnn's dense layers, or the outputs of a text network's layers, are left out in
    training."""
    tied: bool = False
    """Whether the last layer of a network for text has the embedding's table for its weights."""
    epoch_steps: int | None = None
    """Of a text: steps in an epoch, after which the validation part is looked at; by default as many as it takes to see
    each token of the training part once."""

    def __post_init__(self) -> None:
        for name in ("context", "width", "depth"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise BadInput(f"{option(name)}: expected an integer from 1 to 2^20, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise BadInput(f"--dropout: expected a rate from 0 to below 1, got {self.dropout}")
        if self.epoch_steps is not None and self.epoch_steps < 1:
            raise BadInput(f"--epoch-steps: expected an integer of at least 1, got {self.epoch_steps}")
        if not self.tokens.strip():
            raise BadInput("--tokens: expected characters, bytes or a tokenizer's .json file, got an empty name")


def as_tokens(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(context,) of a text.

    Raises:
      BadInput: when the examples are no texts.
    """
    if len(shape) != 1:
        raise BadInput(f"--model: networks for text take no examples of shape ({', '.join(map(str, shape))})")
    return shape


def built(make: Any) -> Layer:
    """The network that is made; sizes that do not fit each other are told as options.

    Raises:
      BadInput: naming them.
    """
    try:
        return make()
    except ValueError as error:
        raise BadInput(f"--model {error}") from None


def told(options: TextOptions) -> str:
    """What all of them have, in a few words."""
    dropped = f", dropout {options.dropout:g}" if options.dropout else ""
    return f"context {options.context}{dropped}{', tied' if options.tied else ''}"


def counted(number: int, what: str) -> str:
    """'1 block', '4 blocks'."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
