"""The network that `--model mlp` names."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.networks.architecture import ARCHITECTURES, architecture_of
from jaxnet.experiment.networks.choices import Activation
from jaxnet.experiment.networks.options import ModelName, NetworkOptions
from jaxnet.experiment.options.train_config import TrainConfig

MLP = ARCHITECTURES["mlp"]


def test_every_network_is_named_and_its_options_are_those_of_the_command_line():
    assert get_args(ModelName) == tuple(ARCHITECTURES)
    for architecture in ARCHITECTURES.values():
        assert issubclass(NetworkOptions, architecture.options)


def test_it_is_the_one_that_is_written_by_hand():
    options = TrainConfig(hidden=(5, 4), activation="tanh", init="small-normal")
    built = options.network((3,), 2, "sigmoid").net
    written = jn.mlp((3, 5, 4, 2), jn.tanh, output_activation=jn.sigmoid, weight_init=jn.initializers.small_normal)
    assert repr(built) == repr(written)
    key = jax.random.key(0)
    jax.tree.map(np.testing.assert_array_equal, built.init(key), written.init(key))


@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_activation_is_the_layer_of_its_name(activation):
    named = getattr(jn.activations, activation)
    built = TrainConfig(hidden=(5,), activation=activation).network((3,), 2, "sigmoid").net
    of_its_name = named if isinstance(named, jn.Layer) else named()
    assert repr(built) == repr(jn.mlp((3, 5, 2), of_its_name, output_activation=jn.sigmoid))


def test_examples_of_any_shape_are_rows_to_it():
    flat, images = (TrainConfig(hidden=(5,)).network(shape, 2, "identity") for shape in ((6,), (2, 3)))
    assert images == flat
    assert images.shape == (6,)
    assert str(images) == "6-5-2, relu, output identity"
    assert images.parameters == 6 * 5 + 5 + 5 * 2 + 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"hidden": (8, 8), "activation": "leaky_relu"}, ["he", "he", "glorot"]),
        ({"hidden": (8,), "activation": "tanh"}, ["glorot", "glorot"]),
        ({"hidden": (8,), "activation": "selu"}, ["lecun", "glorot"]),
        ({"hidden": (8,), "activation": "gelu"}, ["he", "glorot"]),
        ({"hidden": (), "init": "zeros"}, ["zeros"]),
    ],
)
def test_how_weights_start_is_told(options, expected):
    assert TrainConfig(**options).network((3,), 2, "identity").settled == {"init": expected}


def test_exports_name_its_arrays_in_the_order_of_their_use(key):
    network = TrainConfig(hidden=(5,), activation="relu").network((3,), 2, "softplus")
    params = network.net.init(key)
    arrays = MLP.arrays(params)
    assert list(arrays) == ["W1", "b1", "W2", "b2"]
    x = jax.random.normal(key, (4, 3))
    z = jnp.maximum(x @ arrays["W1"].T + arrays["b1"][None], 0) @ arrays["W2"].T + arrays["b2"][None]
    np.testing.assert_allclose(network.net(params, x), jax.nn.softplus(z), rtol=1e-5)
    assert network.about["sizes"] == (3, 5, 2)


def test_a_name_that_no_network_has_is_refused():
    with pytest.raises(BadInput) as error:
        architecture_of("mpl")
    expected = "--model: expected one of cnn, gru, lstm, mlp, resnet, transformer; got 'mpl'; did you mean mlp?"
    assert str(error.value) == expected
