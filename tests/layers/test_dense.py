import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from trees import assert_trees_equal

import jaxnet as jn
from jaxnet import draw
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.parameters import sides_of

messages = pytest.mark.usefixtures("without_shape_annotations")


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3), (1, 2, 4, 3)], ids=str)
def test_backward_equals_autodiff_with_and_without_positions(shape, key):
    jn.testing.check_layer(jn.dense(3, 4), jax.random.normal(key, shape), key)


def test_forward_is_x_times_w_transposed_plus_b(key):
    params = jn.Dense(W=jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), b=jnp.array([0.5, -0.5]))
    z, _ = jn.dense(3, 2).forward(params, jnp.array([[1.0, 0.0, -1.0]]))
    np.testing.assert_array_equal(z, [[-1.5, -2.5]])


def test_without_a_bias_there_is_no_parameter_in_its_place(key):
    layer = jn.dense(3, 4, bias=False)
    params, x = layer.init(key), jax.random.normal(key, (5, 2, 3))
    assert repr(layer) == "dense(3, 4, bias=False)"
    assert params.b is None
    np.testing.assert_array_equal(params.W, jn.dense(3, 4).init(key).W)
    np.testing.assert_array_equal(layer(params, x), x @ params.W.T)
    jn.testing.check_layer(layer, x, key)


NETS_WITHOUT_BIAS = {
    "chain": jn.chain(jn.dense(3, 4, bias=False), jn.tanh, jn.dense(4, 3, bias=False)),
    "repeat": jn.repeat(jn.recompute(jn.residual(jn.chain(jn.dense(3, 3, bias=False), jn.tanh))), 2),
}


@pytest.mark.parametrize("name", NETS_WITHOUT_BIAS)
def test_without_biases_everything_is_read_as_ever(name, x64, key):
    net, loss = NETS_WITHOUT_BIAS[name], jn.losses.half_squared_error
    params, x = net.init(key), jax.random.normal(key, (5, 3))
    y = jnp.cos(x)

    def loss_of_one(params, x, y):
        return loss.forward(net.apply(params, x[None]), y[None])[0]

    @jax.jit
    def everything(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, loss.backward(z, y))
        readings = [read(dparams) for read in (jn.per_example.each, jn.per_example.norms, jn.per_example.gram)]
        g = jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(params, x, y)
        nets = net, jn.mixed_precision(net, jnp.float32)
        gradients = [jn.value_and_grad(of, loss)(params, x, y)[1] for of in nets]
        return readings, g, gradients, jn.curvature.kflr(net, loss, params, x, y)

    (each, norms, gram), g, (mean, mixed), factors = everything(params, x, y)
    flat = np.concatenate([np.reshape(leaf, (5, -1)) for leaf in jax.tree.leaves(g)], axis=1)
    assert_trees_equal(each, g)
    np.testing.assert_allclose(norms, np.sqrt((flat**2).sum(1)), rtol=1e-12)
    np.testing.assert_allclose(gram, flat @ flat.T, rtol=0, atol=1e-12)
    assert jax.tree.structure(mean) == jax.tree.structure(mixed) == jax.tree.structure(params)
    assert [leaf.shape[-1] for leaf in jax.tree.leaves(factors)] == ([4, 3, 3, 4] if name == "chain" else [3, 3])


def test_without_a_bias_its_picture_and_its_places_on_a_mesh_have_none(key):
    net, x = jn.chain(jn.dense(3, 4, bias=False), jn.dense(4, 2, bias=False)), jnp.ones((5, 3))
    params = net.init(key)
    text = str(draw(net, params, x))
    assert "dW1 = (1/m) dZ1ᵀ X" in text
    assert "db1" not in text
    places = make_layout("model=2").of_params(net, params, sides_of(net, params, x), x)
    assert places[0].b is None
    assert [place.spec for place in jax.tree.leaves(places)] == [
        PartitionSpec("model"),
        PartitionSpec(None, "model"),
    ]


def test_backward_returns_factors_not_their_product(key):
    layer = jn.dense(3, 4)
    x, dz = jax.random.normal(key, (5, 3)), jax.random.normal(key, (5, 4))
    params = layer.init(key)
    dparams, _ = layer.backward(params, layer.forward(params, x)[1], dz)
    assert isinstance(dparams.W, jn.Outer)
    assert dparams.W.dz is dz
    assert dparams.W.a is x
    assert isinstance(dparams.b, jn.Each)
    assert dparams.b.g is dz


def test_the_signal_may_travel_through_other_weights(key):
    layer, feedback = jn.dense(3, 4), jax.random.normal(key, (4, 3))
    params, x, dz = layer.init(key), jnp.ones((5, 3)), jax.random.normal(key, (5, 4))
    dparams, dx = layer.backward(params._replace(W=feedback), layer.forward(params, x)[1], dz)
    np.testing.assert_array_equal(dx, dz @ feedback)
    np.testing.assert_array_equal(dparams.W.dz, dz)


@messages
def test_numpy_arrays_are_taken_for_parameters_and_input(key):
    layer = jn.dense(3, 4)
    params = jax.tree.map(np.asarray, layer.init(key))
    z, cache = layer.forward(params, np.ones((2, 3), np.float32))
    dparams, _ = layer.backward(params, cache, np.ones((2, 4), np.float32))
    assert z.shape == (2, 4)
    assert jn.per_example.mean(dparams).W.shape == (4, 3)


@messages
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jitted"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((7, 2), np.float32), "dense(3, 4): expected x of shape (m, ..., 3), got (7, 2)"),
        (np.float32(1), "dense(3, 4): expected x of shape (m, ..., 3), got ()"),
        (
            np.ones((7, 3), np.int32),
            "dense(3, 4): expected x of W's dtype float32, got int32; convert it with x.astype('float32')",
        ),
    ],
    ids=["features", "scalar", "integers"],
)
def test_a_wrong_input_is_named(x, message, jit, key):
    layer = jn.dense(3, 4)
    forward = jax.jit(layer.forward) if jit else layer.forward
    with pytest.raises(ValueError) as error:
        forward(layer.init(key), x)
    assert str(error.value).splitlines()[0] == message


@messages
def test_a_wrong_cotangent_is_named(key):
    layer = jn.dense(3, 4)
    params, x = layer.init(key), jnp.ones((7, 3))
    with pytest.raises(ValueError, match=r"^dense\(3, 4\): expected dz of shape \(7, 4\), that of z, got \(7, 3\)"):
        layer.backward(params, x, jnp.ones((7, 3)))
    with pytest.raises(ValueError, match=r"got x of shape \(3,\); pass a single example as x\[None\]"):
        layer.backward(params, x[0], jnp.ones(4))


@messages
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 4), "dense: expected inputs to be a positive integer, got 0"),
        ((3, -1), "dense: expected outputs to be a positive integer, got -1"),
        ((3, 4.0), "dense: expected outputs to be a positive integer, got 4.0"),
    ],
)
def test_a_wrong_size_is_named(sizes, message):
    with pytest.raises(ValueError) as error:
        jn.dense(*sizes)
    assert str(error.value) == message


@messages
def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match=r"^dense\(3, 4\): expected parameters Dense\(W, b\), got a tuple$"):
        jn.dense(3, 4).forward((), np.ones((7, 3), np.float32))
    for bias, b, expected, got in ((True, None, "(4,)", "None"), (False, jnp.ones(4), "None", "(4,)")):
        label = "dense(3, 4)" if bias else "dense(3, 4, bias=False)"
        with pytest.raises(ValueError) as error:
            jn.dense(3, 4, bias=bias).forward(jn.Dense(jnp.ones((4, 3)), b), np.ones((7, 3), np.float32))
        assert str(error.value) == (
            f"{label}: expected parameters W (4, 3) and b {expected}, got W (4, 3) and b {got}; "
            "they are another layer's"
        )


COMBINATORS = {
    "alone": (lambda layer: layer, lambda params: params),
    "chain": (lambda layer: jn.chain(jn.tanh, layer), lambda params: ((), params)),
    "residual": (jn.residual, lambda params: params),
    "repeat": (
        lambda layer: jn.repeat(layer, 2),
        lambda params: jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), params),
    ),
    "recompute": (jn.recompute, lambda params: params),
    "mixed precision": (jn.mixed_precision, lambda params: params),
    "all": (
        lambda layer: jn.chain(jn.mixed_precision(jn.repeat(jn.recompute(jn.residual(layer)), 1))),
        lambda params: (jax.tree.map(lambda leaf: leaf[None], params),),
    ),
}


@messages
@pytest.mark.parametrize("combinator", COMBINATORS)
def test_parameters_of_another_layer_are_refused_even_where_the_shapes_would_do(combinator, key):
    """As many inputs, but more outputs or biases: without a look at its own sizes the layer would take them."""
    make, given = COMBINATORS[combinator]
    net, x = make(jn.dense(3, 3)), jnp.ones((2, 3))
    W, b = jnp.ones((3, 3)), jnp.ones(3)
    _, cache = net.forward(given(jn.Dense(W, b)), x)
    for other in (jn.Dense(jnp.ones((5, 3)), jnp.ones(5)), jn.Dense(W, jnp.ones(1)), jn.Dense(jnp.ones((3, 4)), b)):
        message = (
            f"dense(3, 3): expected parameters W (3, 3) and b (3,), got W {other.W.shape} and b {other.b.shape}; "
            "they are another layer's"
        )
        for call in (lambda p: net.forward(given(p), x), lambda p: net.backward(given(p), cache, x)):
            with pytest.raises(ValueError) as error:
                call(other)
            assert str(error.value) == message
