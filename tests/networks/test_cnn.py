import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn


def test_a_cnn_halves_the_positions_in_each_block_and_makes_a_row_of_what_is_left(key):
    net = jn.cnn((9, 7, 2), 5, channels=(3, 4), hidden=(6,), dropout=0.5)
    assert [layer.name for layer in net.made.args] == [
        *("conv", "relu", "max_pool") * 2,
        *("flatten", "dropout", "dense", "relu", "dropout", "dense"),
    ]
    params = net.init(key)
    assert params[0].W.shape == (3, 3, 3, 2)
    assert params[8].W.shape == (6, 2 * 1 * 4)
    assert net.apply(params, jax.random.normal(key, (2, 9, 7, 2))).shape == (2, 5)


def test_norms_are_between_convolutions_without_bias_and_activations():
    net = jn.cnn((8, 8, 1), 3, channels=(4,), hidden=(), groups=2, activation=jn.tanh)
    assert repr(net) == (
        "chain(conv(1, 4, (3, 3), bias=False), group_norm(2, 4), tanh, max_pool(window=(2, 2)), flatten, dense(64, 3))"
    )


def test_a_resnets_stages_halve_the_positions_and_their_last_weights_start_smaller(key):
    net = jn.resnet((8, 8, 8, 1), 3, channels=(16, 32), depth=2, groups=4)
    params = net.init(key)
    *_, first, _, _, last = params[1]
    assert first.W.shape == last.W.shape == (2, 16, 3, 3, 3, 16)
    np.testing.assert_allclose(np.std(first.W), np.sqrt(2 / (27 * 16)), rtol=0.05)
    # Four blocks: half the deviation.
    np.testing.assert_allclose(np.std(last.W), np.sqrt(2 / (27 * 16)) / 2, rtol=0.05)
    z, cache = jax.eval_shape(net.forward, params, jnp.ones((1, 8, 8, 8, 1)))
    assert z.shape == (1, 3)
    # What the mean over positions is of.
    assert cache[7].shape[1:] == (4, 4, 4, 32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: jn.cnn((28,), 10),
            "cnn: expected the shape of an example, such as (28, 28, 1), got (28,)",
        ),
        (
            lambda: jn.cnn((28, 28, 1), 10, channels=()),
            "cnn: expected channels to be positive integers, such as (32, 64), got ()",
        ),
        (
            lambda: jn.cnn((28, 3, 1), 10),
            "cnn: expected at least 4 positions along each axis for 2 blocks, each of which halves them, got (28, 3)",
        ),
        (
            lambda: jn.resnet((28, 28, 1), 10, groups=5),
            "resnet: expected groups to divide each of the channels (16, 32, 64), got 5",
        ),
        (
            lambda: jn.resnet((28, 28, 1), 0),
            "resnet: expected outputs to be a positive integer, got 0",
        ),
        (
            lambda: jn.resnet((28, 28, 1), 10, activation=jn.elu),
            "resnet: expected activation to be a Layer, such as jaxnet.relu, got the function elu, which makes one: "
            "call it, as in elu(1.0)",
        ),
    ],
)
@pytest.mark.usefixtures("without_shape_annotations")
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
