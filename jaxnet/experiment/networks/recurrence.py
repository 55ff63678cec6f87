"""What `--model gru` and `--model lstm` have in common: layers over time between an embedding and a head."""

from collections.abc import Callable

from jaxnet.compose import chain
from jaxnet.experiment.networks.text import TextOptions, told
from jaxnet.layer import Layer
from jaxnet.layers.embedding import embedding, unembedding
from jaxnet.networks.blocks import dropped
from jaxnet.networks.pre_norm import of_tables
from jaxnet.tied import tied


def over_time(layer: Callable[[int, int], Layer], options: TextOptions, outputs: int) -> Layer:
    """From ids (m, t) to what follows each, (m, t, outputs), by so many layers one on the other.

    The tables start as the transformer's do where they are tied, and else with rows of length 1, which a recurrence,
    without norms, hears of.
    """
    ends = (embedding, unembedding)
    first, last = (end(outputs, options.width, **({"weight_init": of_tables} if options.tied else {})) for end in ends)
    block = layer(options.width, options.width), *dropped(options.dropout)
    layers = block * options.depth
    return tied(first, chain(*layers), last) if options.tied else chain(first, *layers, last)


def described(options: TextOptions, shape: tuple[int, ...], outputs: int) -> str:
    """The network in a few words."""
    layers = "1 layer" if options.depth == 1 else f"{options.depth} layers"
    return f"{outputs} tokens, {layers} of width {options.width}, {told(options)}"
