"""Where a window lies on positions: sizes, steps and borders, and the products of what it covers.

Letters: at the place p (along each axis of positions) the offset k of the window covers the position
q = p stride + k dilation - before. The first offset to the last span (size - 1) dilation + 1 positions.
"""

import math
from itertools import product
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, DTypeLike, Float, Int

from jaxnet.factored.convolved import convolved


class Window(NamedTuple):
    """A window along each axis of positions, all known: `padding` in pairs and not by a name.

    Attributes:
      size: how many offsets k the window has.
      stride: how many positions lie between two places of it.
      padding: (before, after), zeros that positions are continued by.
      dilation: how many positions lie between two of its offsets.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    @property
    def span(self) -> tuple[int, ...]:
        """How many positions there are from its first to its last."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))

    def places(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        """How many places the window has on so many positions; less than 1 where it does not fit."""
        each = zip(positions, self.padding, self.span, self.stride, strict=True)
        return tuple((n + before + after - span) // step + 1 for n, (before, after), span, step in each)

    def slices(self, x: Float[Array, "m ..."]) -> list[Float[Array, "m ..."]]:
        """What each offset of the window covers at all its places, (m, *places, ...), in row-major order."""
        axes, places = len(self.size), self.places(x.shape[1 : 1 + len(self.size)])
        further = x.ndim - 1 - axes
        padded = jnp.pad(x, ((0, 0), *self.padding, *((0, 0),) * further))
        covered = []
        for offset in product(*map(range, self.size)):
            starts = [k * d for k, d in zip(offset, self.dilation, strict=True)]
            ends = [k + (n - 1) * s + 1 for k, n, s in zip(starts, places, self.stride, strict=True)]
            rest = x.shape[1 + axes :]
            covered.append(
                lax.slice(
                    padded,
                    (0, *starts, *(0,) * further),
                    (x.shape[0], *ends, *rest),
                    (1, *self.stride, *(1,) * further),
                )
            )
        return covered

    def starts(self) -> Int[Array, "k d"]:
        """Where each offset of the window first lies in x (m, *q, i) with its borders, in row-major order."""
        offsets = np.array(list(product(*map(range, self.size))), np.int32) * np.array(self.dilation, np.int32)
        return jnp.asarray(np.pad(offsets, ((0, 0), (1, 1))))

    def slice_at(self, start: Int[Array, " d"], x: Float[Array, "m *q i"]) -> Float[Array, "m *p i"]:
        """What an offset of the window covers at all its places, where a loop over `starts` comes to it."""
        # 0, but to the compiler a matter of the offset: what is padded alike for all of them it would pad ahead of the
        # loop, and hold from the forward pass on.
        nothing = jnp.minimum(start.min(), 0).astype(x.dtype)
        padded = lax.pad(x, nothing, ((0, 0, 0), *((*pair, 0) for pair in self.padding), (0, 0, 0)))
        each = zip(self.places(x.shape[1:-1]), self.stride, strict=True)
        spans = [(n - 1) * step + 1 for n, step in each]
        covered = lax.dynamic_slice(padded, tuple(start), (x.shape[0], *spans, x.shape[-1]))
        return lax.slice(covered, (0,) * x.ndim, covered.shape, (1, *self.stride, 1))

    def patches(self, x: Float[Array, "m *q i"], groups: int) -> Float[Array, "m t g k"]:
        """What the window covers at each place, of each group: in the order of the weight's axes behind its first."""
        return jnp.concatenate([grouped(covered, groups) for covered in self.slices(x)], axis=-1)

    def products(self, x: Float[Array, "m *q i"], W: Float[Array, "o *k c"], groups: int) -> Float[Array, "m *p o"]:
        """z_po = sum_kc W_okc x_(p stride + k dilation - before)c, with as many channels c of its group for each o."""
        return convolved(
            x, jnp.moveaxis(W, 0, -1), self.stride, self.padding, rhs_dilation=self.dilation, feature_group_count=groups
        )

    def spread(
        self, dz: Float[Array, "m *p o"], W: Float[Array, "o *k c"], groups: int, positions: tuple[int, ...]
    ) -> Float[Array, "m *q i"]:
        """dx_qc = sum_pko W_okc dz_po over all p and k with p stride + k dilation - before = q.

        That is a window again: at the place q its offset k, counted from behind, covers dz with stride - 1 zeros
        between its places, and continued so far that what of the positions no window covers gets 0.
        """
        axes = len(self.size)
        stretched = [(n - 1) * s + 1 for n, s in zip(dz.shape[1:-1], self.stride, strict=True)]
        padding = [
            (span - 1 - before, q - n + before)
            for span, (before, _), q, n in zip(self.span, self.padding, positions, stretched, strict=True)
        ]
        return convolved(
            dz,
            jnp.moveaxis(turned(jnp.flip(W, range(1, 1 + axes)), groups), 0, -1),
            (1,) * axes,
            padding,
            lhs_dilation=self.stride,
            rhs_dilation=self.dilation,
            feature_group_count=groups,
        )

    def gathered(
        self, dz: Float[Array, "m *p o"], x: Float[Array, "m *q i"], dtype: DTypeLike | None
    ) -> Float[Array, "o *k i"]:
        """dW_oki = sum_mp dz_po x_(p stride + k dilation - before)i, over examples too, of one group.

        A convolution as well, in which inputs are the examples, examples the channels, and dz the window.
        """
        stretched = [(n - 1) * s + 1 for n, s in zip(dz.shape[1:-1], self.stride, strict=True)]
        each = zip(self.span, self.padding, x.shape[1:-1], stretched, strict=True)
        dW = convolved(
            jnp.swapaxes(x, 0, -1),
            jnp.moveaxis(dz, 0, -2),
            self.dilation,
            [(before, n + span - 1 - before - q) for span, (before, _), q, n in each],
            rhs_dilation=self.stride,
            preferred_element_type=dtype,
        )
        return jnp.swapaxes(dW, 0, -1)


def grouped(signal: Float[Array, "m *p c"], groups: int) -> Float[Array, "m t g d"]:
    """The channels of each group by themselves, and one axis of positions."""
    return signal.reshape(signal.shape[0], math.prod(signal.shape[1:-1]), groups, signal.shape[-1] // groups)


def turned(W: Float[Array, "o *k c"], groups: int) -> Float[Array, "i *k d"]:
    """What maps outputs to inputs in each group: (o, *k, i / groups) becomes (i, *k, o / groups)."""
    outputs, *size, channels = W.shape
    of_groups = W.reshape(groups, outputs // groups, *size, channels)
    return jnp.swapaxes(of_groups, 1, -1).reshape(groups * channels, *size, outputs // groups)
