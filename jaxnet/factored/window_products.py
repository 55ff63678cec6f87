"""Products of what came back with what a window covers, of all examples or of each, in an order that is quick.

All take dz (m, *p, o) and x (m, *q, i), and give what has a weight's shape (o, *k, c), of c = i / groups channels. They
are functions of the module, and compiled as such: outside of `jax.jit`, a loop whose body is a new function would be
compiled anew in each call.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike, Float

from jaxnet.factored.sums import sum_of_outer_products
from jaxnet.factored.window import Window, grouped

# Examples whose patches a CPU has at once: with more of them it is no quicker, and a mesh's devices are seldom more.
AT_ONCE = 8
# And numbers in those patches, 4 MB in float32: so many stay in a processor's cache.
PATCHES = 2**20


@partial(jax.jit, static_argnums=(0, 1, 2, 3), inline=True)
def of_all(
    window: Window,
    groups: int,
    dtype: DTypeLike | None,
    devices: int,
    dz: Float[Array, "m *p o"],
    x: Float[Array, "m *q i"],
) -> Float[Array, "o *k c"]:
    """The sum over examples, which explicit axes of a mesh spread over so many devices.

    XLA's convolution of x with dz; on CPUs a product for each offset. Of several groups XLA's takes twenty times as
    long on CPUs, and on a mesh it is wrong (jax 0.10.2): theirs is a product for each offset, and on CPUs the patches
    of a few examples at a time. What each takes is in docs/benchmarks.md.
    """
    if groups > 1:
        by_offset = partial(_by_offset, "mtgc,mtgo->gco", window, groups, dtype)
        return _on_cpus(_total_by_examples, by_offset, window, groups, dtype, devices, dz, x)
    convolved = partial(window.gathered, dtype=dtype)
    if not (len(window.size) > 1 and 1 < x.shape[-1] < math.prod(dz.shape[1:-1])):
        return convolved(dz, x)

    def product(covered, dz):
        return sum_of_outer_products(covered, dz, preferred_element_type=dtype)[None]

    # Up to six times as quick, in half of the memory or less.
    by_offset = partial(_of_offsets, product, window)
    return lax.platform_dependent(dz, x, cpu=by_offset, default=convolved)


@partial(jax.jit, static_argnums=(0, 1, 2, 3), inline=True)
def of_each(
    window: Window,
    groups: int,
    dtype: DTypeLike | None,
    devices: int,
    dz: Float[Array, "m *p o"],
    x: Float[Array, "m *q i"],
) -> Float[Array, "m o *k c"]:
    """That of each example: a product for each offset, or on CPUs the patches of a few examples at a time.

    The latter takes a third to a half of the time (docs/benchmarks.md).
    """
    by_offset = partial(_by_offset, "mtgc,mtgo->mgco", window, groups, dtype)
    return _on_cpus(_each_by_examples, by_offset, window, groups, dtype, devices, dz, x)


def _on_cpus(by_examples, by_offset, window, groups, dtype, devices, dz, x):
    # A program that is exported for any number of examples does not know how many are a few.
    if not isinstance(x.shape[0], int) or not x.shape[0]:
        return by_offset(dz, x)
    return lax.platform_dependent(dz, x, cpu=partial(by_examples, window, groups, dtype, devices), default=by_offset)


def _each_by_examples(window, groups, dtype, devices, dz, x):
    rounds, product = _rounds(window, groups, dtype, devices, dz, x)

    def with_next(each, index):
        return lax.dynamic_update_index_in_dim(each, product(index), index, 1), None

    of_round = jax.eval_shape(product, 0)
    # All of it is written over. It holds numbers of dz: of zeros XLA's CPU compiler makes a constant, which is there
    # from the start of the program, and copies it for each weight.
    room = dz[(slice(None), *[0] * (dz.ndim - 1))].reshape(-1, rounds, *[1] * (len(of_round.shape) - 1))
    room = jnp.broadcast_to(room.astype(of_round.dtype), (of_round.shape[0], rounds, *of_round.shape[1:]))
    each, _ = lax.scan(with_next, room, jnp.arange(rounds))
    return each.reshape(len(x), dz.shape[-1], *window.size, x.shape[-1] // groups)


def _total_by_examples(window, groups, dtype, devices, dz, x):
    rounds, product = _rounds(window, groups, dtype, devices, dz, x)

    def with_next(total, index):
        return total + product(index), None

    room = jax.eval_shape(product, 0)
    # Examples of a round stay apart, so that a mesh sums over devices once, at the end.
    total, _ = lax.scan(with_next, jnp.zeros(room.shape, room.dtype), jnp.arange(rounds))
    return total.sum(0).reshape(dz.shape[-1], *window.size, x.shape[-1] // groups)


def _rounds(window, groups, dtype, devices, dz, x):
    """(n, product): product(r) is what is taken together in round r of n: the gradients (b, g, o, k) of b examples."""
    numbers = math.prod(dz.shape[1:-1]) * math.prod(window.size) * x.shape[-1]
    at_once = together(len(x), numbers, devices)
    # The second axis is gone through, so that a mesh that cuts the examples cuts those that are taken together.
    dz, x = (array.reshape(at_once, -1, *array.shape[1:]) for array in (dz, x))

    def product(index):
        dz_next, x_next = (lax.dynamic_index_in_dim(array, index, 1, keepdims=False) for array in (dz, x))
        # Only now by groups: all of dz with that axis is a copy.
        dz_next, patches = grouped(dz_next, groups), window.patches(x_next, groups)
        return jnp.einsum("mtgo,mtgk->mgok", dz_next, patches, preferred_element_type=dtype)

    return x.shape[1], product


def together(examples: int, numbers: int, devices: int) -> int:
    """How many examples are taken at a time, a divisor of all, of which each has so many numbers in its patches."""
    at_once = devices
    while 2 * at_once <= AT_ONCE and not examples % (2 * at_once) and 2 * at_once * numbers <= PATCHES * devices:
        at_once *= 2
    return at_once


def _by_offset(axes, window, groups, dtype, dz, x):
    def product(covered, dz):
        return jnp.einsum(axes, grouped(covered, groups), dz, preferred_element_type=dtype)

    return _of_offsets(product, window, grouped(dz, groups), x)


def _of_offsets(product, window, dz, x):
    """A product for each offset of the window, over slices of x, one after the other: all are 3^2 times x or so."""

    def of_offset(_, start):
        # The slice is a copy anyway, and is turned round in it; dz is not.
        return None, product(window.slice_at(start, x), dz)

    _, of_offsets = lax.scan(of_offset, None, window.starts())
    # (k, ..., g, c, o) to (..., g, o, k, c)
    of_weight = jnp.moveaxis(of_offsets, (0, -1, -2), (-2, -3, -1))
    *leading, groups, outputs, _, channels = of_weight.shape
    return of_weight.reshape(*leading, groups * outputs, *window.size, channels)
