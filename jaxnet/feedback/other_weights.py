"""Back through weights of the network's own shape, but others than those that the signal went forward through."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxnet.arguments import instance_of
from jaxnet.layer import Layer
from jaxnet.parameters import sides_of, sides_on_the_way_back

Backward: TypeAlias = Callable[[Any, Any, Array], tuple[Any, Array]]


def alignment(net: Layer, weights: PyTree[Array]) -> Backward:
    """Feedback alignment: the signal travels through fixed weights, dx = dz B in place of dz W.

    Args:
      net: any network.
      weights: B, of the parameters' structure and shapes: `net.init(key)` with a key of its own gives random ones.

    Returns:
      `(params, cache, dy) -> (dparams, dx)`.

    Source: Lillicrap et al., Random synaptic feedback weights support error backpropagation for deep learning, 2016.

    Example:
      >>> backward: jn.feedback.Backward = jn.feedback.alignment(net, net.init(jax.random.key(1)))
      >>> J, update = jn.value_and_grad(net, loss, backward=backward)(params, x, y)
      >>> bool(jnp.allclose(update[2].W, grads[2].W)), bool(jnp.allclose(update[0].W, grads[0].W))
      (True, False)
    """
    instance_of(Layer, "feedback.alignment", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    return lambda params, cache, dy: net.backward(weights, cache, dy)


def sign_symmetry(net: Layer) -> Backward:
    """Sign symmetry: the way back knows the weights' signs only, B = sign(W) * mean |W|.

    The mean of each weight keeps the signal's size; the source normalises batches to that end. Each weight of a
    repeated layer's stack has its own, and what is no weight, such as a gain, stays as it is.

    Args:
      net: any network.

    Returns:
      `(params, cache, dy) -> (dparams, dx)`.

    Source: Liao et al., How important is weight symmetry in backpropagation?, 2016.

    Example:
      >>> backward = jn.feedback.sign_symmetry(net)
      >>> J, update = jn.value_and_grad(net, loss, backward=backward)(params, x, y)
      >>> bool(jn.feedback.angle(update, grads) < 90)
      True
    """
    instance_of(Layer, "feedback.sign_symmetry", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")

    def signs(sides, leaf):
        if not sides.is_weight:
            return leaf
        of_one = tuple(range(min(sides.outputs, sides.inputs), leaf.ndim))
        return jnp.sign(leaf) * jnp.abs(leaf).mean(of_one, keepdims=True)

    def backward(params, cache, dy):
        sides = sides_on_the_way_back(net, params, cache, dy)
        return net.backward(jax.tree.map(signs, sides, params), cache, dy)

    return backward


def mirror(
    net: Layer,
    weights: PyTree[Array],
    params: PyTree[Array],
    x: PyTree[Any],
    key: jax.Array,
    *,
    rate: float = 0.1,
    decay: float = 0.1,
    examples: int = 128,
) -> PyTree[Array]:
    """Weight mirroring: the way back learns the way forward from noise.

    B := (1 - decay) B + rate (1/n) sum_i y_i x_i^T. Each weight matrix is fed noise x ~ N(0, I) and answers y = W x;
    since E[y x^T] = W, B tends to (rate / decay) W. A convolution's matrix has a row for each output, over all that its
    window covers. Alternate it with training through `alignment(net, weights)`.

    Args:
      net: any network.
      weights: B, of the parameters' structure and shapes.
      params: the network's.
      x: its inputs, or their shapes (`jax.ShapeDtypeStruct`), which tell what is a weight.
      key: of the noise.
      rate: how fast B follows.
      decay: how fast B forgets, in (0, 1].
      examples: n, how much noise is averaged over.

    Returns:
      The feedback weights after one such step; what is no weight stays as it is, and the matrices in a repeated layer's
      stack are each fed noise of their own.

    Source: Akrout et al., Deep learning without weight transport, 2019, section 4.

    Example:
      >>> weights = net.init(jax.random.key(1))
      >>> for k in range(20):
      ...     weights = jn.feedback.mirror(net, weights, params, x, jax.random.key(k), rate=0.3, decay=0.3)
      >>> bool(jn.feedback.angle(weights[2].W, params[2].W) < 20)  # the way back has learnt the way forward
      True
    """
    instance_of(Layer, "feedback.mirror", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    leaves, structure = jax.tree.flatten(params)
    keys = jax.tree.unflatten(structure, jax.random.split(key, len(leaves)))

    def step(sides, key, B, W):
        if not sides.is_weight:
            return B
        # A row for each output, of all that it weighs: of a convolution, all that its window covers.
        stacked = min(sides.outputs, sides.inputs)
        by_outputs = jnp.moveaxis(W, sides.outputs, stacked)
        rows = by_outputs.reshape(*by_outputs.shape[: stacked + 1], -1)
        x = jax.random.normal(key, (examples, *rows.shape[:-2], rows.shape[-1]), W.dtype)
        y = jnp.einsum("n...i,...oi->n...o", x, rows)
        answer = jnp.einsum("n...o,n...i->...oi", y, x).reshape(by_outputs.shape)
        return (1 - decay) * B + (rate / examples) * jnp.moveaxis(answer, stacked, sides.outputs)

    return jax.tree.map(step, sides_of(net, params, x), keys, weights, params)
