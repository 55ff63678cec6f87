"""Cells of one's own, and networks of them."""

from functools import partial

import jax
from own_layers import used_in_unlike_ways

import jaxnet as jn

STATE_IS_OUTPUT = jn.branches(jn.identity, jn.identity)


def at_first_forward(layer, params, x):
    y, cache = layer.forward(params, x[0])
    return (y, *x[1:]), cache


def at_first_backward(layer, params, cache, dy):
    dparams, dx = layer.backward(params, cache, dy[0])
    return dparams, (dx, *dy[1:])


def at_first(layer):
    """A layer at the first part of a tuple."""
    functions = layer.init, partial(at_first_forward, layer), partial(at_first_backward, layer)
    return jn.Layer(*functions, made=partial(at_first, layer))


def cell(*between, inputs=2):
    """Of an output that is the state, (m, 3)."""
    return jn.chain(jn.concatenate, jn.dense(inputs + 3, 3), *between, jn.tanh, STATE_IS_OUTPUT)


SQUEEZE = jn.residual(jn.chain(jn.dense(3, 3), jn.tanh))
OF_IMAGES = jn.chain(jn.concatenate, jn.conv(3, 2, (2,)), jn.tanh, STATE_IS_OUTPUT)
NETWORKS = {
    # name: network, the shape of an example, or ids of that shape.
    "elman": (jn.recurrent(cell(), jn.initial_state(3, learnt=True)), (4, 2), None),
    "windows": (jn.recurrent(OF_IMAGES, jn.chain(jn.initial_state(6), jn.reshape((3, 2)))), (3, 3, 1), None),
    "ids, and parameters of many kinds": (
        jn.recurrent(
            jn.chain(at_first(jn.embedding(5, 2)), cell(jn.repeat(jn.recompute(SQUEEZE), 2), used_in_unlike_ways(3))),
            jn.initial_state(3),
        ),
        (3,),
        5,
    ),
    "repeated": (
        jn.repeat(
            jn.recompute(jn.recurrent(cell(jn.recompute(SQUEEZE), inputs=3), jn.chain(jn.take(0), jn.dense(3, 3)))), 2
        ),
        (3, 3),
        None,
    ),
}


def inputs_of(name, key, examples=3):
    _, shape, ids = NETWORKS[name]
    if ids:
        return jax.random.randint(key, (examples, *shape), 0, ids)
    return jax.random.normal(key, (examples, *shape))
