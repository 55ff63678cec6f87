import jax
import numpy as np
import pytest

import jaxnet as jn


def test_mlp_is_the_chain_of_its_layers(key):
    net = jn.mlp((3, 4, 1), activation=jn.tanh)
    chain = jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 1))
    params = net.init(key)
    assert jax.tree.structure(params) == jax.tree.structure(chain.init(key))
    x = jax.random.normal(key, (5, 3))
    np.testing.assert_array_equal(net.apply(params, x), chain.apply(params, x))


def test_an_output_activation_is_a_further_layer(key):
    net = jn.mlp((3, 4, 1), jn.tanh, output_activation=jn.relu)
    params = net.init(key)
    assert len(params) == 4
    assert (net.apply(params, jax.random.normal(key, (50, 3))) >= 0).all()


@pytest.mark.parametrize(
    ("activation", "variance"),
    [
        *((activation, 2 / 400) for activation in (jn.relu, jn.leaky_relu(), jn.elu(), jn.gelu, jn.gelu_tanh, jn.silu)),
        (jn.selu, 1 / 400),
        *((activation, 2 / 600) for activation in (jn.tanh, jn.sigmoid, jn.softsign, jn.hard_tanh, jn.log_sigmoid)),
    ],
    ids=repr,
)
def test_rectifiers_start_with_he_selu_with_lecun_and_others_with_glorot(activation, variance, key):
    W = jn.mlp((400, 200, 1), activation).init(key)[0].W
    assert W.shape == (200, 400)
    # 80,000 weights: the variance's standard error is 0.5% (kurtosis of a truncated normal or uniform is below 3).
    np.testing.assert_allclose(np.var(W), variance, rtol=0.02)


@pytest.mark.parametrize("initializer", ["he", "glorot", "lecun", "small_normal", "zeros"])
def test_initializers_take_outputs_as_the_first_axis(initializer, key):
    W = getattr(jn.initializers, initializer)(key, (100, 400))
    variance = {"he": 2 / 400, "glorot": 2 / 500, "lecun": 1 / 400, "small_normal": 1e-4, "zeros": 0}[initializer]
    # 40,000 weights: a standard error of 0.7%.
    np.testing.assert_allclose(np.var(W), variance, rtol=0.03)


@pytest.mark.usefixtures("without_shape_annotations")
def test_too_few_sizes_are_named():
    with pytest.raises(ValueError, match=r"^mlp: expected at least the numbers of inputs and outputs, got \(3,\)$"):
        jn.mlp((3,))
    with pytest.raises(ValueError, match="^dense: expected outputs to be a positive integer, got 0$"):
        jn.mlp((3, 0, 1))
