"""Layers, one idea a file, forward and backward adjacent."""

from jaxnet.layers import activations
from jaxnet.layers.avg_pool import avg_pool
from jaxnet.layers.dense import Dense, dense
from jaxnet.layers.embedding import Embedding, embedding, unembedding
from jaxnet.layers.global_pool import global_max, global_mean
from jaxnet.layers.group_norm import GroupNorm, group_norm, instance_norm
from jaxnet.layers.layer_norm import LayerNorm, layer_norm
from jaxnet.layers.max_pool import max_pool
from jaxnet.layers.part import pad, take
from jaxnet.layers.position_table import PositionTable, position_table
from jaxnet.layers.position_waves import rotary, sinusoidal
from jaxnet.layers.rms_norm import RMSNorm, rms_norm
from jaxnet.layers.shape import flatten, reshape, transpose
from jaxnet.layers.gated import geglu, glu, swiglu
from jaxnet.layers.log_softmax import log_softmax

__all__ = [
    "Dense",
    "Embedding",
    "GroupNorm",
    "LayerNorm",
    "PositionTable",
    "RMSNorm",
    "activations",
    "avg_pool",
    "dense",
    "embedding",
    "flatten",
    "global_max",
    "global_mean",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "max_pool",
    "pad",
    "position_table",
    "reshape",
    "rms_norm",
    "rotary",
    "sinusoidal",
    "take",
    "transpose",
    "unembedding",
