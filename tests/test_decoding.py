"""Networks that go on from what they have seen, against the same networks at all positions at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet.decoding import decoder

VOCABULARY, LENGTH = 7, 6
SMALL = {"width": 8, "heads": 2, "depth": 2, "length": LENGTH}


def over_time():
    return jn.chain(jn.embedding(VOCABULARY, 8), jn.gru(8, 8), jn.lstm(8, 8), jn.rnn(8, 8), jn.dense(8, VOCABULARY))


def few_keys():
    projections = jn.branches(jn.dense(8, 8), jn.dense(8, 4), jn.dense(8, 4))
    attend = jn.attention(4, causal=True, window=3, kv_heads=2)
    return jn.chain(jn.embedding(VOCABULARY, 8), jn.sinusoidal(), jn.residual(jn.chain(projections, attend)))


NETWORKS = {
    "transformer": lambda: jn.transformer(VOCABULARY, **SMALL, tied=True, dropout=0.3),
    "rotary": lambda: jn.transformer(
        VOCABULARY, **{**SMALL, "depth": 1}, positions="rotary", repeat=False, recompute=True
    ),
    "few keys": few_keys,
    "over time": over_time,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_follows_is_the_same_position_by_position_as_for_all_at_once(name):
    with jax.enable_x64(True):
        net = NETWORKS[name]()
        params = jax.jit(net.init)(jax.random.key(0))
        params = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)
        x = jax.random.randint(jax.random.key(1), (3, LENGTH), 0, VOCABULARY)
        going_on = decoder(net, LENGTH)
        state, step, found = going_on.start(params, x), jax.jit(going_on.step), []
        for start in range(0, LENGTH, 2):
            y, state = step(params, state, x[:, start : start + 2])
            found.append(y)
        expected = jax.jit(net.apply)(params, x)
        # Products of the same numbers, summed in another order.
        np.testing.assert_allclose(np.concatenate(found, 1), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            jn.chain(jn.embedding(7, 8), jn.global_mean),
            "layers that can go on from what they have seen, got global_mean",
        ),
        (jn.attention(2), "attention to be causal; what follows is not known yet"),
    ],
    ids=["mean", "attention"],
)
def test_a_layer_that_cannot_go_on_is_named(net, message):
    with pytest.raises(ValueError) as refused:
        decoder(net, 4)
    assert str(refused.value) == f"decoder: expected {message}"
