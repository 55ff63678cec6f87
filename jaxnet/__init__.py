"""jaxnet: feed-forward networks whose backward pass is derived by hand, and open to be read.

Example:
  What all examples begin with.

  >>> import jax
  >>> import jax.numpy as jnp
  >>> import optax
  >>> import jaxnet as jn
  >>> key = jax.random.key(0)
  >>> jnp.set_printoptions(precision=2, suppress=True)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from jaxnet import ctrl_c as ctrl_c

# isort: split
from jaxnet import curvature, feedback, initializers, losses, optimizers, per_example, testing
from jaxnet.bend import Bend
from jaxnet.branches import branches
from jaxnet.carried import carried, carried_residual
from jaxnet.compose import chain, residual, signals
from jaxnet.drawing import draw
from jaxnet.factored import Each, Outer, Windows
from jaxnet.fan_out import fan_out
from jaxnet.files import load, restore, save
from jaxnet.gradient import value_and_grad, with_hand_derived_vjp
from jaxnet.layer import Layer, at_leaves, bind
from jaxnet.layers import activations
from jaxnet.layers.activations import (
    elu,
    gelu,
    gelu_tanh,
    hard_tanh,
    identity,
    leaky_relu,
    log_sigmoid,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
)
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
from jaxnet.losses import Loss
from jaxnet.multi_head_attention import multi_head_attention
from jaxnet.networks import cnn, encoder, mlp, resnet, transformer
from jaxnet.overview import summary
from jaxnet.precision import mixed_precision
from jaxnet.recompute import recompute
from jaxnet.recurrent import recurrent
from jaxnet.repeat import repeat
from jaxnet.tied import shared, tied
from jaxnet.training import TrainState, make_epoch, make_step, make_steps, poisson_batches

__version__ = "0.2.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bend",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Each",
    "Embedding",
    "GroupNorm",
    "InitialState",
    "Layer",
    "LayerNorm",
    "Loss",
    "Outer",
    "PositionTable",
    "RMSNorm",
    "TrainState",
    "Windows",
    "activations",
    "at_leaves",
    "attention",
    "avg_pool",
    "bind",
    "branches",
    "carried",
    "carried_residual",
    "chain",
    "cnn",
    "concatenate",
    "conv",
    "conv_transpose",
    "curvature",
    "dense",
    "draw",
    "drop_path",
    "dropout",
    "elu",
    "embedding",
    "encoder",
    "fan_out",
    "feedback",
    "flatten",
    "geglu",
    "gelu",
    "gelu_tanh",
    "global_max",
    "global_mean",
    "glu",
    "group_norm",
    "gru",
    "hard_tanh",
    "identity",
    "initial_state",
    "initializers",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "load",
    "log_sigmoid",
    "log_softmax",
    "losses",
    "lstm",
    "make_epoch",
    "make_step",
    "make_steps",
    "max_pool",
    "mixed_precision",
    "mlp",
    "multi_head_attention",
    "optimizers",
    "pad",
    "per_example",
    "pick",
    "poisson_batches",
    "position_table",
    "random_crop",
    "random_flip",
    "random_shift",
    "recompute",
    "recurrent",
    "relu",
    "repeat",
    "reshape",
    "residual",
    "resnet",
    "restore",
    "rms_norm",
    "rnn",
    "rotary",
    "save",
    "selu",
    "shared",
    "sigmoid",
    "signals",
    "silu",
    "sinusoidal",
    "softplus",
    "softsign",
    "summary",
    "swiglu",
    "take",
    "tanh",
    "testing",
    "tied",
    "transformer",
    "transpose",
    "unembedding",
    "value_and_grad",
    "with_hand_derived_vjp",
]


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from jaxnet import estimator as estimator
else:

    def __getattr__(name):
        """`jaxnet.estimator` is imported when it is asked for: it needs scikit-learn, the rest does not."""
        if name == "estimator":
            return import_module("jaxnet.estimator")
        raise AttributeError(f"module 'jaxnet' has no attribute {name!r}")
