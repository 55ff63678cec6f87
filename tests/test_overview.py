"""The table of a network, and that what it says of memory is what forward really keeps."""

import jax
import jax.numpy as jnp
import pytest

import jaxnet as jn
from jaxnet.overview import leaves


def test_the_lessons_network_as_a_table(key):
    net = jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 1), jn.sigmoid)
    assert jn.summary(net, net.init(key), jnp.zeros((200, 3))) == (
        "layer        parameters        count  output    keeps for backward   memory\n"
        "[0] dense    W (4, 3), b (4,)     16  (200, 4)  (200, 3)            2.3 KiB\n"
        "[1] tanh     -                     0  (200, 4)  (200, 4)            3.1 KiB\n"
        "[2] dense    W (1, 4), b (1,)      5  (200, 1)  (200, 4) of [1]         0 B\n"
        "[3] sigmoid  -                     0  (200, 1)  (200, 1)              800 B\n"
        "total        84 B of float32      21                                6.2 KiB"
    )


def twice_forward(params, x):
    return 2.0 * x * params["gain"][None], (params["gain"], jnp.zeros(3), x)


twice = jn.Layer(lambda key: {"gain": jnp.ones(3)}, twice_forward, lambda params, cache, dy: ({}, dy))

NETWORKS = {
    "nested chains": (jn.chain(jn.chain(jn.dense(3, 3), jn.relu), jn.identity, jn.chain(jn.dense(3, 2))), (5, 3)),
    "residual": (jn.chain(jn.tanh, jn.residual(jn.chain(jn.dense(3, 3), jn.tanh)), jn.dense(3, 2)), (5, 3)),
    "positions": (jn.mlp((3, 4, 2), jn.softplus), (5, 7, 3)),
    "nothing to learn": (jn.chain(jn.tanh, jn.sigmoid), (4, 2)),
    "no layers": (jn.chain(), (4, 2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_memory_is_that_of_the_arrays_that_forward_keeps_each_counted_once(name, key):
    net, shape = NETWORKS[name]
    params, x = net.init(key), jax.random.normal(key, shape)
    _, cache = net.forward(params, x)
    kept = {id(array): array.nbytes for array in jax.tree.leaves(cache)}
    total = jn.summary(net, params, x).splitlines()[-1].split()
    assert total[-2:] == [f"{sum(kept.values())}", "B"]


def test_a_parameter_in_the_cache_costs_nothing_and_a_new_array_does(key):
    lines = jn.summary(twice, twice.init(key), jnp.zeros((2, 3))).splitlines()
    # The zeros are new, 12 bytes, and x is not kept by anybody else, 24 bytes.
    assert lines[1] == "twice  gain (3,)            3  (2, 3)  the parameters, (3,), (2, 3)    36 B"


def test_shapes_alone_are_enough(key):
    net = jn.mlp((784, 4096, 10))
    params = jax.eval_shape(net.init, key)
    text = jn.summary(net, params, jax.ShapeDtypeStruct((8192, 784), jnp.float32))
    assert "3,256,330" in text
    # x, the first activation, and a byte for each of its numbers.
    assert "184.5 MiB" in text


def test_leaves_are_in_the_order_of_forward_and_know_where_a_bypass_begins(key):
    net, _ = NETWORKS["residual"]
    found = leaves(net, net.init(key))
    assert [(leaf.place, leaf.layer.name if leaf.layer else "+", leaf.bypass) for leaf in found] == [
        ("[0]", "tanh", None),
        ("[1][0]", "dense", None),
        ("[1][1]", "tanh", None),
        ("[1]", "+", 1),
        ("[2]", "dense", None),
    ]
