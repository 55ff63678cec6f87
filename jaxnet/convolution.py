"""What a convolution was asked to be, and whether what it is given belongs to it."""

from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxnet.arguments import positive_integer
from jaxnet.sliding import Padding, Sliding, sliding


class Convolution(NamedTuple):
    """What a layer was asked to be. Shown, it is the arguments that made the layer.

    Attributes:
      name: of the layer.
      inputs, outputs: numbers of channels.
      sliding: how its window goes over the positions.
      groups: inputs and outputs are so many parts, each mapped by itself.
      bias: whether there is b.
    """

    name: str
    inputs: int
    outputs: int
    sliding: Sliding
    groups: int
    bias: bool

    def __repr__(self) -> str:
        further = [f"groups={self.groups}"] if self.groups > 1 else []
        options = [*self.sliding.options(), *further, *([] if self.bias else ["bias=False"])]
        return ", ".join([f"{self.inputs}, {self.outputs}, {self.sliding.size}", *options])

    @property
    def label(self) -> str:
        """What messages call the layer."""
        return f"{self.name}({self})"

    @property
    def shape_of_bias(self) -> tuple[int, ...] | None:
        """(o,), or None without one."""
        return (self.outputs,) if self.bias else None


def convolution(
    name: str,
    channels: tuple[SupportsIndex, SupportsIndex],
    window: Sequence[SupportsIndex],
    stride: SupportsIndex | Sequence[SupportsIndex],
    padding: Padding,
    dilation: SupportsIndex | Sequence[SupportsIndex],
    groups: SupportsIndex,
    bias: bool,
) -> Convolution:
    """A layer's arguments, checked in its name; channels are (inputs, outputs)."""
    inputs, outputs, parts = (
        positive_integer(name, what, number)
        for what, number in zip(("inputs", "outputs", "groups"), (*channels, groups), strict=True)
    )
    if inputs % parts or outputs % parts:
        raise ValueError(f"{name}: expected groups to divide {inputs} inputs and {outputs} outputs, got {parts}")
    return Convolution(name, inputs, outputs, sliding(name, window, stride, padding, dilation), parts, bool(bias))


def check_params(asked: Convolution, params: Any, expected: Any) -> None:
    """Refuses what is not of the class and the shapes that are expected."""
    kind = type(expected)
    if not isinstance(params, kind):
        raise ValueError(f"{asked.label}: expected parameters {kind.__name__}(W, b), got a {type(params).__name__}")
    W, b = (None if leaf is None else jnp.shape(leaf) for leaf in params)
    if (W, b) != tuple(expected):
        raise ValueError(
            f"{asked.label}: expected parameters W {expected.W} and b {expected.b}, got W {W} and b {b}; they are "
            "another layer's"
        )


def check_input(asked: Convolution, params: Any, x: Array) -> None:
    """Refuses x with other axes, channels or numbers than the layer takes."""
    axes = len(asked.sliding.size)
    if x.ndim != axes + 2 or x.shape[-1] != asked.inputs:
        positions = ", ".join(f"q{axis + 1}" for axis in range(axes))
        raise ValueError(f"{asked.label}: expected x of shape (m, {positions}, {asked.inputs}), got {x.shape}")
    if x.dtype != params.W.dtype:
        raise ValueError(
            f"{asked.label}: expected x of W's dtype {params.W.dtype}, got {x.dtype}; "
            f"convert it with x.astype('{params.W.dtype}')"
        )


def check_cotangent(asked: Convolution, x: Array, positions: tuple[int, ...], dz: Array) -> None:
    """Refuses dz that has not z's shape, whose positions are given."""
    expected = (x.shape[0], *positions, asked.outputs)
    if dz.shape != expected:
        raise ValueError(f"{asked.label}: expected dz of shape {expected}, that of z, got {dz.shape}")


def layout_of_outputs(x: Array, W: Array, outputs: int) -> NamedSharding:
    """That of z: examples as those of x are, outputs as W's axis of that number is."""
    of_x, of_W = jax.typeof(x).sharding, jax.typeof(W).sharding
    rows = (*tuple(of_x.spec), None)[0]
    of_outputs = (*tuple(of_W.spec), *(None,) * W.ndim)[outputs]
    return NamedSharding(of_x.mesh, PartitionSpec(rows, *(None,) * (x.ndim - 2), of_outputs))
