import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn

SIZES = {"width": 8, "heads": 2, "depth": 2, "length": 5}


@pytest.mark.parametrize("positions", ["learnt", "rotary"])
def test_a_decoder_sees_what_came_before_in_its_order_and_an_encoder_everything(positions, key):
    decoder = jn.transformer(7, positions=positions, **SIZES)
    encoder = jn.encoder(7, 3, positions=positions, **SIZES)
    ids = jnp.asarray([[1, 2, 3, 4, 5], [2, 1, 3, 4, 5], [1, 2, 3, 4, 6]])
    params = decoder.init(key)
    z = decoder.apply(params, ids)
    assert z.shape == (3, 5, 7)
    np.testing.assert_allclose(z[0, :4], z[2, :4], rtol=1e-5, atol=1e-6)
    assert (jnp.abs(z[0] - z[2])[4] > 1e-4).any()
    # The other order of the first two is seen behind them.
    assert (jnp.abs(z[0] - z[1])[2:] > 1e-4).any(-1).all()
    of_all = encoder.apply(encoder.init(key), ids)
    assert of_all.shape == (3, 3)
    assert (jnp.abs(of_all[1:] - of_all[:1]) > 1e-4).any(-1).all()


def test_tables_start_small_and_the_last_weights_of_branches_smaller_than_others(key):
    net = jn.transformer(100, width=64, heads=4, depth=8, length=64)
    table, (positions, ((_, (q, k, v), _, out), (_, wide, _, narrow)), _), head = net.init(key)
    for W in (table.W, head.W, positions.E):
        np.testing.assert_allclose(jnp.std(W), 0.02, rtol=0.05)
    for W in (q.W, k.W, v.W, wide.W):
        np.testing.assert_allclose(jnp.std(W), 1 / 8, rtol=0.05)
    # Of 2 * 8 branches.
    np.testing.assert_allclose(jnp.std(out.W), 1 / 8 / 4, rtol=0.05)
    np.testing.assert_allclose(jnp.std(narrow.W), 1 / 16 / 4, rtol=0.05)
    assert wide.W.shape == (8, 256, 64)
    assert all(layer.b is None for layer in (q, k, v, out, wide, narrow))


def test_repeated_and_chained_blocks_are_the_same_network(key):
    repeated, chained = (jn.transformer(7, tied=True, repeat=repeat, **SIZES) for repeat in (True, False))
    params = repeated.init(key)
    table, (positions, blocks, norm) = params
    apart = tuple(jax.tree.map(lambda leaf, k=k: leaf[k], blocks) for k in range(2))
    ids = jax.random.randint(key, (3, 4), 0, 7)
    ours, theirs = repeated.apply(params, ids), chained.apply((table, (positions, apart, norm)), ids)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: jn.transformer(0, **SIZES),
            "transformer: expected vocabulary to be a positive integer, got 0",
        ),
        (
            lambda: jn.encoder(7, 0, **SIZES),
            "encoder: expected classes to be a positive integer, got 0",
        ),
        (
            lambda: jn.transformer(7, **SIZES | {"heads": 3}),
            "transformer: expected heads to divide the width 8, got 3",
        ),
        (
            lambda: jn.encoder(7, 3, positions="rotary", **SIZES | {"heads": 8}),
            "encoder: expected heads to divide the width 8, with an even number of features for each, got 8",
        ),
        (
            lambda: jn.transformer(7, positions="sinusoidal", **SIZES),
            "transformer: expected positions to be 'learnt' or 'rotary', got 'sinusoidal'",
        ),
        (
            lambda: jn.transformer(7, dropout=1.0, **SIZES),
            "dropout: expected a rate in [0, 1), got 1.0",
        ),
        (
            lambda: jn.transformer(7, activation=jn.elu, **SIZES),
            "transformer: expected activation to be a Layer, such as jaxnet.gelu, got the function elu, which makes "
            "one: call it, as in elu(1.0)",
        ),
    ],
)
@pytest.mark.usefixtures("without_shape_annotations")
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
