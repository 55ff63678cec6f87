"""Networks that go on from what they have seen, against the same networks at all positions at once."""

import jax
import jax.numpy as jnp
import numpy as np
import own_layers as own
import pytest

import jaxnet as jn
from jaxnet.decoding import decoder

VOCABULARY, LENGTH, KEY = 7, 6, jax.random.key(0)
SMALL = {"width": 8, "heads": 2, "depth": 2, "length": LENGTH}


def over_time():
    return jn.chain(jn.embedding(VOCABULARY, 8), jn.gru(8, 8), jn.lstm(8, 8), jn.rnn(8, 8), jn.dense(8, VOCABULARY))


def few_keys():
    projections = jn.branches(jn.dense(8, 8), jn.dense(8, 4), jn.dense(8, 4))
    attend = jn.attention(4, causal=True, window=3, kv_heads=2)
    return jn.chain(jn.embedding(VOCABULARY, 8), jn.sinusoidal(), jn.residual(jn.chain(projections, attend)))


def own_way():
    """A user's layer that says how it goes on, inside every combinator."""
    inner = jn.chain(jn.branches(own.differences(8), jn.dropout(0.5)), jn.concatenate, jn.swiglu)
    body = jn.chain(jn.repeat(jn.recompute(jn.residual(inner)), 2), jn.layer_norm(8))
    return jn.tied(jn.embedding(VOCABULARY, 8), body, jn.unembedding(VOCABULARY, 8))


NETWORKS = {
    "own way": own_way,
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
        (
            jn.bind(jn.attention(2, causal=True, dropout=0.5), KEY),
            "a network that is not bound, got attention with a key; it goes without",
        ),
        (jn.bind(jn.dropout(0.5), KEY), "a network that is not bound, got dropout with a key; it goes without"),
        # Another forward than that which it goes on as.
        (
            own.differences(8)._replace(forward=own.attend_forward),
            "layers that can go on from what they have seen, got attend",
        ),
    ],
    ids=["mean", "attention", "bound attention", "bound dropout", "another forward"],
)
def test_a_layer_that_cannot_go_on_is_named(net, message):
    with pytest.raises(ValueError) as refused:
        decoder(net, 4)
    assert str(refused.value) == f"decoder: expected {message}"


def test_in_mixed_precision_it_goes_on_in_the_short_type(x64):
    net = jn.mixed_precision(jn.chain(own_way(), jn.gru(VOCABULARY, 4), jn.sinusoidal()), "float32")
    params, x = net.init(KEY), jnp.arange(8).reshape(2, 4) % VOCABULARY
    going_on = decoder(net, 4)
    state = going_on.start(params, x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32", "int32"}
    first, state = going_on.step(params, state, x[:, :3])
    second, _ = going_on.step(params, state, x[:, 3:])
    expected = net.apply(params, x)
    # float32 has 24 bits; a division's last digit is another where XLA fuses other operations.
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), expected, rtol=0, atol=1e-6)


def test_a_state_has_one_place_and_one_length():
    gru = jn.gru(2, 2)
    net, x = jn.shared(gru, 2), jnp.ones((1, 3, 2))
    with pytest.raises(ValueError) as refused:
        decoder(net, 4).start(net.init(KEY), x)
    assert str(refused.value) == (
        "decoder: expected layers that keep what they have seen to be used once each, got gru with one set of "
        "parameters at several places"
    )
    with pytest.raises(ValueError) as refused:
        decoder(gru, 4).start(gru.init(KEY), (x, jnp.array([2])))
    assert str(refused.value) == "decoder: expected x without lengths, since it goes on, got lengths at gru(2, 2)"
    attend = jn.attention(1, causal=True)
    with pytest.raises(ValueError) as refused:
        decoder(attend, 4).start((), (x, x, x, jnp.array([2])))
    assert str(refused.value) == "decoder: expected x without lengths, since it goes on, got lengths at attention"


@pytest.mark.parametrize(
    ("net", "room"),
    [(jn.position_table(3, 2), 3), (jn.attention(1, causal=True), 4), (jn.gru(2, 2), None), (jn.tanh, None)],
    ids=["table", "attention", "gru", "tanh"],
)
def test_there_is_room_for_as_many_positions_as_the_least_roomy_layer_has(net, room):
    assert decoder(jn.chain(net, jn.rotary()), 4).room == room


def test_a_layer_over_positions_of_ones_own_is_right(x64):
    jn.testing.check_layer(own.differences(2), jax.random.normal(KEY, (3, 4, 2)), KEY)
