"""Layers, one idea a file, forward and backward adjacent."""

from jaxnet.layers import activations
from jaxnet.layers.dense import Dense, dense
from jaxnet.layers.embedding import Embedding, embedding, unembedding

__all__ = [
    "Dense",
    "Embedding",
    "activations",
    "dense",
    "embedding",
    "unembedding",
]
