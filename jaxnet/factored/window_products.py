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


@partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def of_all(
    window: Window, groups: int, dtype: DTypeLike | None, dz: Float[Array, "m *p o"], x: Float[Array, "m *q i"]
) -> Float[Array, "o *k c"]:
    """The sum over examples: XLA's convolution of x with dz, or on CPUs, and of groups, a product for each offset."""
    # Of several groups XLA's takes twenty times as long on CPUs, and on a mesh it is wrong (jax 0.10.2).
    if groups > 1:
        return _by_offset("mtgc,mtgo->gco", window, groups, dtype, dz, x)
    convolved = partial(window.gathered, dtype=dtype)
    if not (len(window.size) > 1 and 1 < x.shape[-1] < math.prod(dz.shape[1:-1])):
        return convolved(dz, x)

    def product(covered, dz):
        return sum_of_outer_products(covered, dz, preferred_element_type=dtype)[None]

    # Up to six times as quick, in half of the memory or less: see docs/benchmarks.md.
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
    """That of each example: a product for each offset, or on CPUs a few examples' patches at a time.

    The latter takes a third to a half of the time (docs/benchmarks.md). `devices` are those over which explicit axes of
    a mesh spread the examples.
    """
    by_offset = partial(_by_offset, "mtgc,mtgo->mgco", window, groups, dtype)
    # A program that is exported for any number of examples does not know how many are a few.
    if not isinstance(x.shape[0], int) or not x.shape[0]:
        return by_offset(dz, x)
    by_examples = partial(_of_examples, window, groups, dtype, devices)
    return lax.platform_dependent(dz, x, cpu=by_examples, default=by_offset)


def _of_examples(window, groups, dtype, devices, dz, x):
    examples, places, outputs = len(x), math.prod(dz.shape[1:-1]), dz.shape[-1] // groups
    covered = math.prod(window.size) * x.shape[-1] // groups
    at_once = together(examples, places * groups * covered, devices)
    # The second axis is gone through, so that a mesh that cuts the examples cuts those that are taken together.
    dz, x = (array.reshape(at_once, -1, *array.shape[1:]) for array in (grouped(dz, groups), x))

    def with_next(gradients, index):
        dz_next, x_next = (lax.dynamic_index_in_dim(array, index, 1, keepdims=False) for array in (dz, x))
        product = jnp.einsum("mtgo,mtgk->mgok", dz_next, window.patches(x_next, groups), preferred_element_type=dtype)
        return lax.dynamic_update_index_in_dim(gradients, product, index, 1), None

    shape = (*x.shape[:2], groups, outputs, covered)
    room = jnp.zeros(shape, dz.dtype if dtype is None else dtype)
    gradients, _ = lax.scan(with_next, room, jnp.arange(x.shape[1]))
    return gradients.reshape(examples, groups * outputs, *window.size, x.shape[-1] // groups)


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
