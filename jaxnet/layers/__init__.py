"""Layers, one idea a file, forward and backward adjacent."""

from jaxnet.layers import activations
from jaxnet.layers.dense import Dense, dense

__all__ = ["Dense", "activations", "dense"]
