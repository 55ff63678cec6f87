"""Layers of neurons one after another: the multilayer perceptron."""

from collections.abc import Callable, Sequence
from typing import SupportsIndex

from jaxtyping import Array

from jaxnet import initializers
from jaxnet.arguments import instance_of, shown
from jaxnet.compose import chain
from jaxnet.layer import Layer
from jaxnet.layers import activations
from jaxnet.layers.dense import dense

# About 0, or little, below 0 and about z above.
RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu")


def mlp(
    sizes: Sequence[SupportsIndex],
    activation: Layer = activations.relu,
    *,
    output_activation: Layer = activations.identity,
    weight_init: Callable[..., Array] | None = None,
    bias_init: Callable[..., Array] = initializers.zeros,
) -> Layer:
    """A multilayer perceptron: A_l = g(A_{l-1} W_l^T + b_l) for each hidden layer, then Z = A W^T + b.

    Args:
      sizes: the number of inputs, of each hidden layer's neurons, and of outputs: (3, 4, 1) is the lesson's network.
      activation: g, after each hidden layer.
      output_activation: after the last layer. Losses named for a sigmoid or softmax include theirs, so leave it out
        there; relu or softplus suits targets that are never negative.
      weight_init: `(key, (out, in)) -> W` of every layer. By default He where a rectifier or what is like one
        follows (relu, leaky_relu, elu, gelu, gelu_tanh, silu), LeCun before selu, and Glorot elsewhere.
      bias_init: `(key, (out,)) -> b` of every layer.

    Returns:
      `chain(dense(...), activation, dense(...), ...)`; the output activation is a further layer unless it is identity.

    Raises:
      ValueError: when sizes are fewer than two or not positive integers, or an activation is no layer.

    Source: the lesson (docs/lesson.md), S1, S3, S5 and S13.

    Example:
      >>> net = jn.mlp((3, 4, 1), jn.tanh)
      >>> net
      chain(dense(3, 4), tanh, dense(4, 1))
      >>> net(net.init(key), jnp.ones((5, 3))).shape
      (5, 1)
    """
    if not hasattr(sizes, "__len__"):
        raise ValueError(f"mlp: expected sizes such as (3, 4, 1), got {shown(sizes)}")
    if len(sizes) < 2:
        raise ValueError(f"mlp: expected at least the numbers of inputs and outputs, got {tuple(sizes)!r}")
    instance_of(Layer, "mlp", "activation to be a Layer", activation, "jaxnet.tanh")
    instance_of(Layer, "mlp", "output_activation to be a Layer", output_activation, "jaxnet.sigmoid")
    followers = [activation] * (len(sizes) - 2) + [output_activation]
    layers = []
    for inputs, outputs, follower in zip(sizes[:-1], sizes[1:], followers, strict=True):
        init = weight_init or suited_to(follower)
        layers.append(dense(inputs, outputs, weight_init=init, bias_init=bias_init))
        # By value: an identity that was pickled is another object.
        if follower != activations.identity:
            layers.append(follower)
    return chain(*layers)


def suited_to(activation: Layer) -> Callable[..., Array]:
    """How the weights before an activation start: by He's rule before a rectifier, by Glorot's elsewhere.

    What is about 0 below and about z above loses half of the variance as ReLU does, and He's rule gives it back. SELU
    is made to keep the variance 1 with weights of variance 1 / inputs, which is LeCun's rule. The others are about z
    near 0 and level out, which is what Glorot's is for.
    """
    if activation.name == "selu":
        return initializers.lecun
    return initializers.he if activation.name in RECTIFIERS else initializers.glorot
