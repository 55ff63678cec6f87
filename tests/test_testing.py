"""The oracle catches mistakes, and says where they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn

DENSE = jn.dense(3, 4)


def broken_dense(mend):
    """dense(3, 4) whose backward's (dparams, dx) went through `mend`."""
    return DENSE._replace(backward=lambda p, x, dz: mend(*DENSE.backward(p, x, dz), x, dz))


BROKEN_LAYERS = {
    "sign": broken_dense(lambda dp, dx, x, dz: (dp, -dx)),
    "factor 2": broken_dense(lambda dp, dx, x, dz: (dp._replace(b=jn.Each(2 * dz)), dx)),
    "1/m": broken_dense(lambda dp, dx, x, dz: (dp._replace(W=jn.Outer(dz / len(dz), x)), dx)),
    "1%": broken_dense(lambda dp, dx, x, dz: (dp, 1.01 * dx)),
    "missing bias gradient": broken_dense(lambda dp, dx, x, dz: (dp._replace(b=jn.Each(0 * dz)), dx)),
    "examples mixed up": broken_dense(lambda dp, dx, x, dz: (dp._replace(W=jn.Outer(dz[::-1], x[::-1])), dx)),
    "in float32 only": broken_dense(lambda dp, dx, x, dz: (dp, dx * (1 + (dx.dtype == jnp.float32) * 1e-3))),
    "derivative at z": jn.tanh._replace(
        forward=lambda p, z: (jnp.tanh(z), z), backward=lambda p, z, da: (p, da * (1 - z * z))
    ),
    "wrong dtype": broken_dense(lambda dp, dx, x, dz: (dp, dx.astype(jnp.float32))),
    "wrong shape": broken_dense(lambda dp, dx, x, dz: (dp, dx[:, :2])),
    "wrong structure": broken_dense(lambda dp, dx, x, dz: (tuple(dp), dx)),
    "nan": broken_dense(lambda dp, dx, x, dz: (dp, dx * jnp.nan)),
}


@pytest.mark.parametrize("mistake", BROKEN_LAYERS)
@pytest.mark.usefixtures("without_shape_annotations")
def test_a_broken_layer_is_caught(mistake, key):
    with pytest.raises(AssertionError, match="^check_layer: "):
        jn.testing.check_layer(BROKEN_LAYERS[mistake], jax.random.normal(key, (5, 3)), key)


@pytest.mark.parametrize("mistake", BROKEN_LAYERS)
@pytest.mark.usefixtures("without_shape_annotations")
def test_a_broken_layer_in_a_network_is_caught(mistake, key):
    rest = jn.dense(3, 2) if "derivative" in mistake else jn.dense(4, 2)
    first = jn.dense(3, 3)
    net = jn.chain(first, BROKEN_LAYERS[mistake], rest)
    x, y = jax.random.normal(key, (5, 3)), jax.random.normal(key, (5, 2))
    with pytest.raises((AssertionError, ValueError, TypeError)):
        jn.testing.check_network(net, jn.losses.half_squared_error, net.init(key), x, y)


def test_the_message_names_leaf_index_and_both_values(key):
    def wrong_in_one_weight(dp, dx, x, dz):
        return dp._replace(b=jn.Each(dz * jnp.array([[1.0, 1.0, 3.0, 1.0]], dz.dtype))), dx

    with pytest.raises(AssertionError) as error:
        jn.testing.check_layer(broken_dense(wrong_in_one_weight), jax.random.normal(key, (5, 3)), key)
    first, second = str(error.value).splitlines()
    assert first == "check_layer: dense, float64, eager:"
    start, hand, expected, rest = second.replace(", expected ", "; ").replace(": by hand ", "; ").split("; ")
    assert start == "  dparams.b[2]"
    np.testing.assert_allclose(float(hand), 3 * float(expected), rtol=1e-8)
    assert rest.startswith("off by ")
    assert rest.endswith(" of the leaf's largest value, allowed 1.0e-12")


LOSS = jn.losses.sigmoid_binary_cross_entropy
BROKEN_LOSSES = {
    "1/m": LOSS._replace(backward=lambda z, y: LOSS.backward(z, y) / len(z)),
    "zeros": LOSS._replace(backward=lambda z, y: 0 * z),
    "mean over outputs": LOSS._replace(forward=lambda z, y: LOSS.forward(z, y) / z.shape[1]),
    "a scalar": LOSS._replace(forward=lambda z, y: LOSS.forward(z, y).sum()),
    "root not taken": LOSS._replace(root_hessian=lambda z, y: LOSS.root_hessian(z, y) ** 2),
    "samples of one class": LOSS._replace(sample=lambda key, z: jnp.ones_like(z)),
    "samples of another shape": LOSS._replace(sample=lambda key, z: LOSS.sample(key, z)[:, 0]),
    "samples of integers": LOSS._replace(sample=lambda key, z: LOSS.sample(key, z).astype(int)),
}


@pytest.mark.parametrize("mistake", BROKEN_LOSSES)
def test_a_broken_loss_is_caught(mistake, key):
    z, y = jax.random.normal(key, (5, 3)), jax.random.uniform(key, (5, 3))
    with pytest.raises(AssertionError, match="^check_loss: "):
        jn.testing.check_loss(BROKEN_LOSSES[mistake], z, y)


@pytest.mark.parametrize("mistake", ["1/m", "zeros"])
def test_a_network_with_a_broken_loss_is_caught(mistake, key):
    net = jn.mlp((3, 4, 3), jn.tanh)
    x, y = jax.random.normal(key, (5, 3)), jax.random.uniform(key, (5, 3))
    with pytest.raises(AssertionError, match="^check_network: chain, float64, eager:\n  grads"):
        jn.testing.check_network(net, BROKEN_LOSSES[mistake], net.init(key), x, y)


def test_parameters_are_moved_off_their_start(key):
    """A backward that is right only while the bias is 0 passes unless the bias is moved."""

    def forgets_bias(p, x, dz):
        dparams, dx = DENSE.backward(p, x, dz)
        return dparams, dx + (p.b != 0).any().astype(dx.dtype)

    with pytest.raises(AssertionError, match="dx"):
        jn.testing.check_layer(DENSE._replace(backward=forgets_bias), jax.random.normal(key, (5, 3)), key)


def test_the_callers_precision_is_left_as_it_was(key):
    jn.testing.check_layer(DENSE, jax.random.normal(key, (5, 3)), key)
    assert not jax.config.jax_enable_x64
    with jax.enable_x64(True):
        jn.testing.check_layer(DENSE, jax.random.normal(key, (5, 3)), key)
        assert jax.config.jax_enable_x64
