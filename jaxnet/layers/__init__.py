"""Layers, one idea a file, forward and backward adjacent."""

from jaxnet.layers import activations
from jaxnet.layers.dense import Dense, dense
from jaxnet.layers.embedding import Embedding, embedding, unembedding
from jaxnet.layers.position_table import PositionTable, position_table
from jaxnet.layers.position_waves import rotary, sinusoidal

__all__ = [
    "Dense",
    "Embedding",
    "PositionTable",
    "activations",
    "dense",
    "embedding",
    "position_table",
    "rotary",
    "sinusoidal",
    "unembedding",
]
