"""Through which weights the signal travels back: others than those that it went forward through.

The brain has no way to know a synapse's weight when it sends a signal the other way. What learns without? Each function
here makes a `backward` for `value_and_grad(net, loss, backward=...)`, or for use in place of `net.backward`: forward
and loss stay as they are, and so does what is read off.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import instance_of
from jaxnet.compose import layers_of, named_in_errors
from jaxnet.layer import Layer
from jaxnet.norms import long_type, scale_of

Backward: TypeAlias = Callable[[Any, Any, Array], tuple[Any, Array]]


def alignment(net: Layer, weights: PyTree[Array]) -> Backward:
    """Feedback alignment: the signal travels through fixed weights, dx = dz B in place of dz W.

    Args:
      net: any network.
      weights: B, of the parameters' structure and shapes: `net.init(key)` with a key of its own gives random ones.

    Returns:
      `(params, cache, dy) -> (dparams, dx)`.

    Source: Lillicrap et al., Random synaptic feedback weights support error backpropagation for deep learning, 2016.
    """
    instance_of(Layer, "feedback.alignment", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    return lambda params, cache, dy: net.backward(weights, cache, dy)


def sign_symmetry(net: Layer) -> Backward:
    """Sign symmetry: the way back knows the weights' signs only, B = sign(W) * mean |W|.

    The mean of each weight matrix keeps the signal's size; the source normalises batches to that end.

    Args:
      net: any network.

    Returns:
      `(params, cache, dy) -> (dparams, dx)`.

    Source: Liao et al., How important is weight symmetry in backpropagation?, 2016.
    """
    instance_of(Layer, "feedback.sign_symmetry", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")

    def signs(leaf):
        return jnp.sign(leaf) * jnp.abs(leaf).mean((-2, -1), keepdims=True) if leaf.ndim > 1 else leaf

    return lambda params, cache, dy: net.backward(jax.tree.map(signs, params), cache, dy)


def mirror(
    weights: PyTree[Array],
    params: PyTree[Array],
    key: jax.Array,
    *,
    rate: float = 0.1,
    decay: float = 0.1,
    examples: int = 128,
) -> PyTree[Array]:
    """Weight mirroring: the way back learns the way forward from noise.

    B := (1 - decay) B + rate (1/n) sum_i y_i x_i^T. Each weight matrix is fed noise x ~ N(0, I) and answers y = W x;
    since E[y x^T] = W, B tends to (rate / decay) W. Alternate it with training through `alignment(net, weights)`.

    Args:
      weights: B, of the parameters' structure and shapes.
      params: the network's.
      key: of the noise.
      rate: how fast B follows.
      decay: how fast B forgets, in (0, 1].
      examples: n, how much noise is averaged over.

    Returns:
      The feedback weights after one such step; vectors and scalars stay as they are, and the matrices in a repeated
      layer's stack are each fed noise of their own.

    Source: Akrout et al., Deep learning without weight transport, 2019, section 4.
    """
    leaves, structure = jax.tree.flatten(params)

    def step(key, B, W):
        if W.ndim < 2:
            return B
        x = jax.random.normal(key, (examples, *W.shape[:-2], W.shape[-1]), W.dtype)
        y = jnp.einsum("n...i,...oi->n...o", x, W)
        return (1 - decay) * B + (rate / examples) * jnp.einsum("n...o,n...i->...oi", y, x)

    keys = jax.random.split(key, max(len(leaves), 1))
    pairs = zip(keys, jax.tree.leaves(weights), leaves, strict=False)
    return jax.tree.unflatten(structure, [step(*pair) for pair in pairs])


def direct_weights(net: Layer, params: PyTree[Any], x: Array | jax.ShapeDtypeStruct, key: jax.Array) -> tuple[Any, ...]:
    """Random feedback weights for `direct`: from the network's outputs straight to the inputs of each layer.

    Args:
      net: a chain.
      params: its parameters.
      x: inputs, or their shapes (`jax.ShapeDtypeStruct`).
      key: of the draws.

    Returns:
      For each layer of the chain B (outputs of the network, features of the layer's input), from N(0, 1 / outputs);
      () where the layer has no parameters, and where none before it has.
    """
    layers, key_of = _layers_of(net), iter(jax.random.split(key, max(len(params), 1)))
    outputs = jax.eval_shape(net.apply, params, x)
    weights: list[Any] = []
    below = False
    for layer, of_layer in zip(layers, params, strict=True):
        here, layer_key = bool(jax.tree.leaves(of_layer)), next(key_of)
        shape = (outputs.shape[-1], x.shape[-1])
        draw = here and below
        weights.append(jax.random.normal(layer_key, shape, outputs.dtype) / shape[0] ** 0.5 if draw else ())
        below = below or here
        x = jax.eval_shape(layer.apply, of_layer, x)
    return tuple(weights)


def direct(net: Layer, weights: tuple[Any, ...]) -> Backward:
    """Direct feedback alignment: each layer hears from the output itself, dx = e B in place of dz W.

    e is the signal at the network's output. Between two layers with parameters it passes the activations as ever.

    Args:
      net: a chain.
      weights: as `direct_weights` draws them.

    Returns:
      `(params, cache, dy) -> (dparams, dx)`.

    Raises:
      ValueError: when the network is no chain.

    Source: Nokland, Direct feedback alignment provides learning in deep neural networks, 2016.
    """
    layers = _layers_of(net)

    def backward(params, cache, dy):
        error, dparams = dy, []
        for position in reversed(range(len(layers))):
            with named_in_errors(position, layers[position]):
                layer_dparams, dx = layers[position].backward(params[position], cache[position], dy)
            B = weights[position]
            dy = dx if isinstance(B, tuple) else error @ B
            dparams.append(layer_dparams)
        return tuple(reversed(dparams)), dy

    return backward


def angle(update: PyTree[Array], gradient: PyTree[Array]) -> Float[Array, ""]:
    """The angle between two trees of the same structure, all their numbers in a row, in degrees from 0 to 180.

    Below 90 degrees, a small step along the one also lowers the loss whose gradient is the other. It does not change
    with the length of either, and is NaN where one is 0.

    Args:
      update, gradient: the structure of the parameters.
    """
    unit, other = _unit(update), _unit(gradient)
    apart, together = (_norm(jax.tree.map(combine, unit, other)) for combine in (jnp.subtract, jnp.add))
    # Kahan's form, which keeps its digits near 0 and 180 where the cosine has lost them.
    return jnp.degrees(2 * jnp.arctan2(apart, together))


def _unit(tree):
    tree = jax.tree.map(lambda leaf: leaf.astype(long_type(leaf.dtype)), tree)
    # By the largest number first: the norm itself may be beyond the type.
    scale = scale_of(jnp.stack([jnp.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(tree)]).max())
    # Cut off at 4, which changes nothing but keeps the compiler from squaring what it knows before it is divided.
    tree = jax.tree.map(lambda leaf: jnp.clip(leaf * (1 / scale), -4, 4), tree)
    norm = _norm(tree)
    return jax.tree.map(lambda leaf: leaf / norm, tree)


def _norm(tree):
    return jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)))


def _layers_of(net):
    instance_of(Layer, "feedback.direct", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    layers = layers_of(net)
    if layers is None:
        raise ValueError(f"feedback.direct: expected a chain, got {net.name}")
    return layers
