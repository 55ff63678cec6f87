"""The computational graph of a network as a picture: what flows forward, and below it what flows back."""

from typing import Any

import jax
from jaxtyping import Array, PyTree

from jaxnet.drawing.paint import picture
from jaxnet.drawing.plan import plan_of
from jaxnet.drawing.svg import Drawing
from jaxnet.layer import Layer
from jaxnet.losses import Loss

__all__ = ["Drawing", "draw"]


def draw(net: Layer, params: Any, x: PyTree[Array | jax.ShapeDtypeStruct], *, loss: Loss | None = None) -> Drawing:
    """The network's computational graph, with the shape of every intermediate value, and of the derivative of each.

    Above each edge stands what flows forward, below it what flows back (per example, without 1/m), and below each box
    by which equation. Layers stand in the order of forward, in rows that can be read at a width of 800 pixels. A line
    below leads to where a value is taken further on: the bypass of a residual layer, or another branch. A frame is
    around layers that are repeated, around those that are computed again on the way back, and around those whose
    combinator does more than to hand on and to add. Parameters that several layers share have one name, and say that
    they are shared. Nothing is computed.

    Args:
      net: any layer or network.
      params: as `net.init(key)` returns them, or their shapes.
      x: (m, ...), or a `jax.ShapeDtypeStruct`.
      loss: draws the loss after the last layer.

    Returns:
      SVG text, which a notebook shows; `draw(...).save("net.svg")` writes it.

    Raises:
      ValueError: when the shapes that a layer sends back are not those of its input and its parameters.

    Example:
      >>> net = jn.mlp((3, 4, 1), jn.tanh)
      >>> drawing = jn.draw(net, net.init(key), jnp.ones((5, 3)), loss=jn.losses.sigmoid_binary_cross_entropy)
      >>> drawing[:4], "(5, 4)" in drawing
      ('<svg', True)
    """
    return picture(plan_of(net, params, x, loss))
