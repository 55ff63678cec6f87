"""Whole networks, put together from layers: one idea a file."""

from jaxnet.networks.cnn import cnn
from jaxnet.networks.encoder import encoder
from jaxnet.networks.mlp import mlp, suited_to
from jaxnet.networks.resnet import resnet
from jaxnet.networks.transformer import transformer

__all__ = ["cnn", "encoder", "mlp", "resnet", "suited_to", "transformer"]
