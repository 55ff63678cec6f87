"""What a device holds, computes and sends in a step of training on a mesh, worked out for as many devices as one likes.

Nothing is timed. The places of the parameters are those of `--mesh` and `--shard-state` (`Layout`), and what is sent is
what the partitioner adds, as tests find it in the compiled programs of eight simulated devices:

  over "data"   the gradient of what a device holds of the parameters, once a step; and with --shard-state each
                parameter that is split, whole, for each pass that looks at it
  over "model"  forward, the outputs of each layer that is split by its inputs; backward, the signal into each layer
                that is split by its outputs, but for the first; the examples' losses where the last outputs are split

In a ring of n devices each sends (n - 1) / n of s bytes for all to gather them, or for each to have its part of a sum,
and so twice that for a sum that all have (Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of
workstations, 2009).
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, NamedSharding

from benchmarks.work import uses_of
from jaxnet.experiment.devices.mesh import AXES, Layout
from jaxnet.layer import Layer
from jaxnet.parameters import Sides, sides_of

NUMBER = 4  # bytes, float32
# Of a label's cross-entropy, summed for each position where the outputs are split: two maxima, five sums, and whether
# the label is among a device's.
OF_LABELS = 7 * NUMBER + 1
# Parameters, their gradient, and Adam's two moments.
COPIES = 4


class Load(NamedTuple):
    """Of one device, in a step; in bytes, but for the operations.

    Attributes:
      state: parameters, gradient and Adam's moments.
      cache: what the backward pass needs of the forward pass.
      gathered: parameters, which all along data gather, forward and backward.
      scattered: gradients, which are summed along data, and of which each device takes its part.
      over_data, over_model: what is summed with the other devices, and all have.
      operations: multiplications and additions.
    """

    state: int
    cache: int
    gathered: int
    scattered: int
    over_data: int
    over_model: int
    operations: int

    def sent(self, data: int, model: int) -> "Sent":
        """What the device sends, in rings along each axis."""
        along_data, along_model = (data - 1) / data, (model - 1) / model
        return Sent(
            along_data * self.gathered,
            along_data * self.scattered,
            2 * along_data * self.over_data,
            2 * along_model * self.over_model,
        )


class Sent(NamedTuple):
    """Bytes that a device sends in a step: in all-gathers, in reduce-scatters, and in all-reduces along each axis."""

    gathers: float
    scatters: float
    over_data: float
    over_model: float


def load(
    net: Layer, x: Any, data: int = 1, model: int = 1, *, shard_state: bool = False, of_loss: int = NUMBER
) -> Load:
    """The load of a device in a mesh of data x model; `model` divides the heads of attention.

    Args:
      net: without `recompute`.
      x: shapes of the inputs of one place along data: a share of the batch.
      data, model: devices along each axis.
      shard_state: as the option.
      of_loss: bytes that are summed of each position's loss where the last outputs are split.
    """
    layout = Layout(AbstractMesh((data, model), AXES, axis_types=(AxisType.Auto,) * 2), shard_state)
    params = jax.eval_shape(net.init, jax.random.key(0))
    sides = sides_of(net, params, x)
    used = layout.of_params(net, params, sides, x)
    between = layout.between_steps(params, sides, used)
    of_leaves = list(map(_Place.of, *map(jax.tree.leaves, (params, sides, used, between))))
    cache = gathered = scattered = summed = over_model = operations = 0
    inside = False
    uses = uses_of(net, x)
    for use in uses:
        leaves = [of_leaves[number] for number in use.params]
        by_outputs, by_inputs = (any(getattr(leaf, name) for leaf in leaves) for name in ("by_outputs", "by_inputs"))
        ids = not jnp.issubdtype(jax.tree.leaves(use.x)[0].dtype, jnp.floating)
        # What stands between two split layers has some neurons, or heads, only.
        over = model if by_inputs or (inside and not by_outputs) else 1
        cache += use.times * use.kept // over
        operations += use.times * use.products // (model if by_outputs else over)
        if by_inputs or (by_outputs and ids):
            over_model += use.times * _bytes(use.y)
        if by_outputs and not use.first:
            over_model += use.times * _bytes(use.x)
        inside = (inside or by_outputs) and not by_inputs and not ids
        for leaf, number in zip(leaves, use.params, strict=True):
            gathered += leaf.gathered * (1 + (number in use.seen))
            # Of a table that is tied, each use's gradient is summed by itself.
            scattered += leaf.gathered
            summed += 0 if leaf.gathered else leaf.used * NUMBER
    last = [of_leaves[number] for number in uses[-1].params]
    if any(leaf.by_outputs for leaf in last):
        over_model += math.prod(uses[-1].y.shape[:-1]) * of_loss
    return Load(
        state=COPIES * NUMBER * sum(leaf.between for leaf in of_leaves),
        cache=cache,
        gathered=gathered,
        scattered=scattered,
        # With the loss.
        over_data=summed + NUMBER if data > 1 else 0,
        over_model=over_model,
        operations=operations,
    )


class _Place(NamedTuple):
    """Of a parameter: numbers of it on a device, while it is used and between steps, and by what it is split."""

    used: int
    between: int
    by_outputs: bool
    by_inputs: bool

    @property
    def gathered(self) -> int:
        """Bytes that are there while it is used, where between steps a part is."""
        return self.used * NUMBER if self.between < self.used else 0

    @classmethod
    def of(cls, leaf: Any, sides: Sides, used: NamedSharding, between: NamedSharding) -> "_Place":
        """By shapes and places."""
        spec = (*used.spec, *[None] * (leaf.ndim - len(used.spec)))
        whole, kept = (math.prod(place.shard_shape(leaf.shape)) for place in (used, between))
        outputs, inputs = (
            sides.is_weight and spec[axis] == "model" for axis in (sides.outputs or 0, sides.inputs or 0)
        )
        return cls(whole, kept, outputs, inputs)


def _bytes(shapes):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
