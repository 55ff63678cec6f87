"""What a network of images does with a few of them: what it looks for, what it finds, and which pixels matter."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import per_example
from jaxnet.factored import Factored, Windows
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.notes import in_order, with_notes

# Images that go through the network at a time.
BLOCK = 128


class Readings(NamedTuple):
    """Of m images.

    Attributes:
      losses: (m,), of each.
      norms: (m,), of the gradient of each image's loss, all parameters together.
      saliency: (m, height, width), the largest |dx| over the channels: how much the loss changes with a pixel.
    """

    losses: np.ndarray
    norms: np.ndarray
    saliency: np.ndarray


def read(net: Layer, loss: Loss, params: Any, x: np.ndarray, y: np.ndarray) -> Readings:
    """The readings of images x (m, height, width, channels) with targets y as the loss takes them.

    All come of one pass back, of which the gradient's norms are a reading, and dx the signal at its end.
    """

    @jax.jit
    def readings(params, x, y):
        z, cache = net.forward(params, x)
        dparams, dx = net.backward(params, cache, loss.backward(z, y))
        return loss.forward(z, y), per_example.norms(dparams), jnp.abs(dx).max(axis=-1)

    blocks = [readings(params, x[k : k + BLOCK], y[k : k + BLOCK]) for k in range(0, len(x), BLOCK)]
    return Readings(*(np.concatenate(parts) for parts in zip(*jax.device_get(blocks), strict=True)))


def filters(net: Layer, params: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """The weights (o, height, width, channels) that see an image of that shape itself; None where there are none."""

    def backward(params, x):
        z, cache = net.forward(params, x)
        return net.backward(params, cache, jnp.ones_like(z))[0]

    image = jax.ShapeDtypeStruct((1, *shape), jax.tree.leaves(params)[0].dtype)
    forms = jax.tree.leaves(jax.eval_shape(backward, params, image), is_leaf=lambda leaf: isinstance(leaf, Factored))
    for form, array in zip(forms, jax.tree.leaves(params), strict=True):
        if isinstance(form, Windows) and form.x.shape[1:] == shape:
            return np.asarray(array)
    return None


def feature_maps(net: Layer, params: Any, image: np.ndarray) -> list[np.ndarray]:
    """What the activations let through of an image: (height, width, channels) of each, in the order of the layers."""
    noting = with_notes(net, ahead=lambda y: y if jnp.ndim(y) == 4 else ())

    @jax.jit
    def notes(params, x):
        z, cache = noting.forward(params, x)
        note, _ = noting.backward(params, cache, jnp.zeros_like(z))
        found = in_order(net, note)
        return [one.ahead[0] for one in found if one.place.layer.kind == "elementwise" and hasattr(one.ahead, "shape")]

    return list(map(np.asarray, jax.device_get(notes(params, image[None]))))
