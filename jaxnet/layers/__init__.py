"""Layers, one idea a file, forward and backward adjacent."""

from jaxnet.layers import activations
from jaxnet.layers.attention import attention
from jaxnet.layers.augmentation import random_crop, random_flip, random_shift
from jaxnet.layers.avg_pool import avg_pool
from jaxnet.layers.concatenate import concatenate
from jaxnet.layers.conv import Conv, conv
from jaxnet.layers.conv_transpose import ConvTranspose, conv_transpose
from jaxnet.layers.dense import Dense, dense
from jaxnet.layers.dropout import drop_path, dropout
from jaxnet.layers.embedding import Embedding, embedding, unembedding
from jaxnet.layers.gated import geglu, glu, swiglu
from jaxnet.layers.global_pool import global_max, global_mean
from jaxnet.layers.group_norm import GroupNorm, group_norm, instance_norm
from jaxnet.layers.gru import GRU, gru
from jaxnet.layers.initial_state import InitialState, initial_state
from jaxnet.layers.layer_norm import LayerNorm, layer_norm
from jaxnet.layers.log_softmax import log_softmax
from jaxnet.layers.lstm import LSTM, lstm
from jaxnet.layers.max_pool import max_pool
from jaxnet.layers.part import pad, take
from jaxnet.layers.pick import pick
from jaxnet.layers.position_table import PositionTable, position_table
from jaxnet.layers.position_waves import rotary, sinusoidal
from jaxnet.layers.rms_norm import RMSNorm, rms_norm
from jaxnet.layers.rnn import RNN, rnn
from jaxnet.layers.shape import flatten, reshape, transpose

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Embedding",
    "GroupNorm",
    "InitialState",
    "LayerNorm",
    "PositionTable",
    "RMSNorm",
    "activations",
    "attention",
    "avg_pool",
    "concatenate",
    "conv",
    "conv_transpose",
    "dense",
    "drop_path",
    "dropout",
    "embedding",
    "flatten",
    "geglu",
    "global_max",
    "global_mean",
    "glu",
    "group_norm",
    "gru",
    "initial_state",
    "instance_norm",
    "layer_norm",
    "log_softmax",
    "lstm",
    "max_pool",
    "pad",
    "pick",
    "position_table",
    "random_crop",
    "random_flip",
    "random_shift",
    "reshape",
    "rms_norm",
    "rnn",
    "rotary",
    "sinusoidal",
    "swiglu",
    "take",
    "transpose",
    "unembedding",
]
