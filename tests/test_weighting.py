"""A weight of 0 leaves an example out, whatever its row and its label hold, wherever weights are taken."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_layers import tied

import jaxnet as jn
from jaxnet import curvature, optimizers, per_example
from jaxnet.weighting import with_rows_that_count

LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
# The row of zeros is one that a network may not be able to take either.
DEEP = jn.mlp((4, 6, 3), jn.tanh)
INVERSE = jn.Layer(lambda key: (), lambda p, x: (1 / x, x), lambda p, x, dy: ((), -dy / x**2))
NETWORKS = {
    "with positions": (jn.mlp((4, 6, 3), jn.relu), (2,)),
    "repeated, with parameters used twice": (jn.chain(jn.repeat(tied(4), 2), jn.dense(4, 3)), ()),
    "mixed precision": (jn.mixed_precision(DEEP), ()),
    "not finite at 0": (jn.chain(INVERSE, jn.dense(4, 3)), ()),
}
WEIGHTS = np.array([0.0, 0.5, 0.25, 0.0, 0.25], np.float32)
LEFT_OUT = WEIGHTS == 0


def quantities(net, params, x, y, weights, key):
    """All that takes weights."""
    clip = per_example.clipped(0.1)
    value, grads = jn.value_and_grad(net, LOSS)(params, x, y, weights)

    def value_fn(params):
        return jn.value_and_grad(net, LOSS)(params, x, y, weights)[0]

    batch = {"x": x, "y": y, "weights": weights}
    results = {
        "gradient": (value, grads),
        "clipped": jn.value_and_grad(net, LOSS, read=clip)(params, x, y, weights),
        "clipped, of a batch size": jn.value_and_grad(net, LOSS, read=per_example.clipped(0.1, 8))(
            params, x, y, weights
        ),
        "kflr": curvature.kflr(net, LOSS, params, x, y, weights),
        "ggn_vector_product": curvature.ggn_vector_product(net, LOSS, params, x, y, params, weights),
    }
    kfac = optimizers.kfac(net, LOSS, key=key, inputs=x)
    step, _ = kfac.update(grads, kfac.init(params), params, value=value, value_fn=value_fn, **batch)
    results["K-FAC's step"] = step
    results["kfac"] = curvature.kfac(net, LOSS, params, x, y, key, 2, weights)
    return results


def steps_with(optimizer, net, params, x, y, weights):
    """Two batches in a scan."""
    state, metrics = jn.make_steps(net, LOSS, optimizer)(
        jn.TrainState.create(params, optimizer), *(jnp.stack([jnp.asarray(a)] * 2) for a in (x, y, weights))
    )
    return state.params, metrics


@pytest.fixture(params=NETWORKS)
def problem(request, key):
    net, positions = NETWORKS[request.param]
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (5, *positions, 4))
    return net, net.init(keys[1]), x, jax.random.randint(keys[2], (5, *positions), 0, 3)


def spoilt(x, y):
    """NaN, infinity and labels that there are not, where the weight is 0."""
    nothing = np.where(np.arange(5) < 3, np.nan, np.inf).reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype)
    rows = LEFT_OUT.reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(rows, nothing, x), jnp.where(LEFT_OUT.reshape(-1, *(1,) * (y.ndim - 1)), -1, y)


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.isfinite(np.asarray(theirs, np.float64)).all()
        np.testing.assert_array_equal(np.asarray(ours, np.float64), np.asarray(theirs, np.float64))


def test_what_an_example_of_weight_zero_holds_does_not_matter(problem, key):
    """To the last bit, in all that takes weights."""
    net, params, x, y = problem
    every = jax.jit(lambda x, y: quantities(net, params, x, y, jnp.asarray(WEIGHTS), key))
    assert_same(every(*spoilt(x, y)), every(x, y))


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_steps_leave_out_examples_of_weight_zero(optimizer, key):
    """lbfgs differentiates and evaluates the loss again, by `value_fn`."""
    net, _ = NETWORKS["not finite at 0"]
    params, x, y = net.init(key), jax.random.normal(key, (5, 4)), jnp.array([0, 1, 2, 1, 0])
    optimizer = {"sgd": optax.sgd(0.1), "lbfgs": optax.lbfgs()}[optimizer]
    assert_same(
        steps_with(optimizer, net, params, *spoilt(x, y), WEIGHTS), steps_with(optimizer, net, params, x, y, WEIGHTS)
    )


@pytest.mark.parametrize("net", [DEEP, jn.chain(INVERSE, DEEP)], ids=["finite", "not finite at 0"])
def test_the_gradient_without_the_examples_of_weight_zero_is_that_of_jax_grad(net, x64, key):
    params, x, y = net.init(key), jax.random.normal(key, (5, 4)), jnp.array([0, 1, 2, 1, 0])
    weights = WEIGHTS.astype(np.float64)

    def mean_loss(params):
        losses = LOSS.forward(net.apply(params, x[~LEFT_OUT]), y[~LEFT_OUT])
        return (losses * weights[~LEFT_OUT]).sum()

    bad_x, bad_y = spoilt(x, y)
    expected = jax.jit(jax.value_and_grad(mean_loss))(params)
    actual = jax.jit(jn.value_and_grad(net, LOSS))(params, bad_x, bad_y, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), actual, expected)


def test_readings_leave_out_factors_of_weight_zero(key):
    """Also those of a backward pass of one's own, which saw the rows as they are."""
    net = jn.chain(jn.repeat(tied(4), 2), jn.dense(4, 3))
    params, x, y = net.init(key), jax.random.normal(key, (5, 4)), jnp.array([0, 1, 2, 1, 0])
    weights = jnp.asarray(WEIGHTS)

    @jax.jit
    def readings(x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))
        return per_example.total(dparams, weights), per_example.clipped(0.1)(dparams, weights)

    assert_same(readings(*spoilt(x, y)), readings(x, y))


MOMENTS = {
    name: getattr(per_example, name) for name in ("mean", "second_moment", "variance", "signal_to_noise", "noise_scale")
}


def test_moments_by_weights_are_those_of_the_examples_that_count_whatever_the_weights_sum_is(x64, key):
    net = jn.chain(jn.repeat(tied(4), 2), jn.dense(4, 3))
    params, x, y = net.init(key), jax.random.normal(key, (5, 4)), jnp.array([0, 1, 2, 1, 0])

    @jax.jit
    def moments(x, y, weights=None):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))
        return {name: reading(dparams, weights=weights) for name, reading in MOMENTS.items()}

    def assert_alike(actual, expected):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), actual, expected)

    bad_x, _ = spoilt(x, y)
    assert_alike(moments(bad_x, y, jnp.where(LEFT_OUT, 0.0, 7.0)), moments(x[~LEFT_OUT], y[~LEFT_OUT]))
    # An example of weight 3 is one that is there three times, but to the noise scale.
    rows = np.array([0, 1, 1, 1, 2, 2])
    actual, expected = moments(x[:3], y[:3], jnp.array([1.0, 3.0, 2.0])), moments(x[rows], y[rows])
    for name in MOMENTS.keys() - {"noise_scale"}:
        assert_alike(actual[name], expected[name])


def test_the_noise_scale_of_one_example_that_counts_is_not_a_number(key):
    dparams = jn.Each(jax.random.normal(key, (3, 4)))
    assert jnp.isnan(per_example.noise_scale(dparams, jnp.array([0.0, 1.0, 0.0])))
    assert jnp.isfinite(per_example.noise_scale(dparams, jnp.array([0.0, 1.0, 1.0])))


def test_a_nan_that_counts_is_not_hidden(key):
    net = DEEP
    params, x, y = net.init(key), jax.random.normal(key, (5, 4)), jnp.array([0, 1, 2, 1, 0])
    of_batch = jax.jit(jn.value_and_grad(net, LOSS))
    value, grads = of_batch(params, x.at[1].set(jnp.nan), y, jnp.asarray(WEIGHTS))
    assert jnp.isnan(value)
    assert all(jnp.isnan(leaf).any() for leaf in jax.tree.leaves(grads))
    value, _ = of_batch(params, x, y, jnp.asarray(WEIGHTS).at[1].set(jnp.nan))
    assert jnp.isnan(value)


def test_an_infinite_loss_that_counts_is_infinite_and_not_nan():
    """Rows of weight 0 become that of an example that counts, and 0 times infinity is NaN."""
    a, y = jnp.array([[0.5], [0.0], [0.0]]), jnp.array([[1.0], [0.0], [1.0]])
    of_batch = jn.value_and_grad(jn.identity, jn.losses.binary_cross_entropy)
    assert of_batch((), a, y, jnp.array([0.0, 0.0, 0.5]))[0] == jnp.inf


def test_rows_are_replaced_in_every_kind_of_array():
    tree = {"ids": jnp.array([7, -1, 9], jnp.int8), "mask": np.array([[True], [False], [True]]), "none": None}
    replaced = with_rows_that_count(jnp.array([0.0, 2.0, 0.0]), tree)
    np.testing.assert_array_equal(replaced["ids"], [-1, -1, -1])
    np.testing.assert_array_equal(replaced["mask"], [[False]] * 3)
    assert replaced["ids"].dtype == jnp.int8
    of_none = with_rows_that_count(jnp.zeros(3), jnp.full((3, 2), jnp.nan))
    np.testing.assert_array_equal(of_none, np.zeros((3, 2)))


def steps_as_they_are(net, params, x, y, weights):
    optimizer = optax.sgd(0.1)
    return jn.make_steps(net, LOSS, optimizer)(jn.TrainState.create(params, optimizer), x[None], y[None], weights)


TAKES_WEIGHTS = {
    "value_and_grad": lambda net, p, x, y, w: jn.value_and_grad(net, LOSS)(p, x, y, w),
    "make_steps": steps_as_they_are,
    "per_example.total": lambda net, p, x, y, w: per_example.total(jn.Each(x), w),
    "per_example.clipped": lambda net, p, x, y, w: per_example.clipped(1.0)(jn.Each(x), w),
    "per_example.mean": lambda net, p, x, y, w: per_example.mean(jn.Each(x), w),
    "per_example.second_moment": lambda net, p, x, y, w: per_example.second_moment(jn.Each(x), w),
    "per_example.noise_scale": lambda net, p, x, y, w: per_example.noise_scale(jn.Each(x), w),
    "curvature.kronecker": lambda net, p, x, y, w: curvature.kronecker(net, curvature.exact(LOSS), p, x, y, w),
    "curvature.kflr": lambda net, p, x, y, w: curvature.kflr(net, LOSS, p, x, y, w),
    "curvature.kfac": lambda net, p, x, y, w: curvature.kfac(net, LOSS, p, x, y, jax.random.key(0), 1, w),
    "curvature.ggn_vector_product": lambda net, p, x, y, w: curvature.ggn_vector_product(net, LOSS, p, x, y, p, w),
}


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize("name", TAKES_WEIGHTS)
def test_weights_of_another_shape_are_refused_with_both_shapes(name, key):
    net = DEEP
    arguments = net, net.init(key), jax.random.normal(key, (5, 4)), jnp.array([0, 1, 2, 1, 0])
    expected = "(1, 5), one for each example of each batch" if name == "make_steps" else "(5,), one for each example"
    bad = [(jnp.ones(shape), str(shape)) for shape in ((1,), (4,), (5, 1), ())]
    # What jax.jit takes is an array then.
    number = "()" if name == "make_steps" else "a float"
    for weights, got in [*bad, (np.ones((1, 1)), "(1, 1)"), ([1.0] * 5, "a list"), (0.2, number)]:
        with pytest.raises(ValueError) as error:
            TAKES_WEIGHTS[name](*arguments, weights)
        assert str(error.value) == f"{name}: expected weights of shape {expected}, got {got}"


@pytest.mark.usefixtures("without_shape_annotations")
def test_negative_weights_of_kronecker_factors_are_refused_where_they_are_known(key):
    net = DEEP
    params, x, y = net.init(key), jax.random.normal(key, (5, 4)), jnp.array([0, 1, 2, 1, 0])
    weights = jnp.array([0.5, -0.25, 0.25, 0.25, 0.25])
    for name, quantity in {"kflr": curvature.kflr, "kfac": partial(curvature.kfac, key=key)}.items():
        with pytest.raises(ValueError) as error:
            quantity(net, LOSS, params, x, y, weights=weights)
        assert str(error.value) == f"curvature.{name}: expected weights of at least 0, got -0.25"
    factors = jax.jit(lambda weights: curvature.kflr(net, LOSS, params, x, y, weights))(weights)
    assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(factors))


EMPTY = {
    "value_and_grad": lambda net, p, x, y, key: jn.value_and_grad(net, LOSS)(p, x, y),
    **{
        f"curvature.{name}": partial(
            lambda quantity, net, p, x, y, key: quantity(net, LOSS, p, x, y), getattr(curvature, name)
        )
        for name in (
            "ggn_diagonal",
            "fisher_diagonal",
            "ggn_diagonal_per_example",
            "ggn_blocks",
            "hessian_diagonal",
            "hessian_diagonal_per_example",
            "kflr",
            "kfra",
            "ekfac",
        )
    },
    **{
        f"curvature.{name}": partial(
            lambda quantity, net, p, x, y, key: quantity(net, LOSS, p, x, y, p), getattr(curvature, name)
        )
        for name in ("ggn_vector_product", "hessian_vector_product", "fisher_vector_product")
    },
    "curvature.kfac": lambda net, p, x, y, key: curvature.kfac(net, LOSS, p, x, y, key),
    "curvature.ggn_diagonal_sampled": lambda net, p, x, y, key: curvature.ggn_diagonal_sampled(net, LOSS, p, x, y, key),
    "curvature.diagonal": lambda net, p, x, y, key: curvature.diagonal(net, curvature.exact(LOSS), p, x, y),
    "curvature.kronecker": lambda net, p, x, y, key: curvature.kronecker(net, curvature.exact(LOSS), p, x, y),
    "curvature.jacobian": lambda net, p, x, y, key: curvature.jacobian(net, p, x),
    "curvature.neural_tangent_kernel": lambda net, p, x, y, key: curvature.neural_tangent_kernel(net, p, x),
}


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_batch_is_refused_by_name(name, key):
    net = DEEP
    with pytest.raises(ValueError) as error:
        EMPTY[name](net, net.init(key), jnp.ones((0, 4)), jnp.ones(0, jnp.int32), key)
    assert str(error.value) == f"{name}: expected at least one example, got an empty batch"


@pytest.mark.parametrize("weights", [None, jnp.array([0.5, 0.25, 0.0])], ids=["mean", "weighted"])
def test_a_network_without_parameters_has_gradients_without_numbers(weights, key):
    """Which examples there are, its factors cannot tell."""
    net, loss = jn.chain(jn.tanh, jn.identity), jn.losses.half_squared_error
    x = jax.random.normal(key, (3, 2))
    for read in (None, per_example.clipped(1.0), per_example.clipped(1.0, 8), per_example.total):
        value, grads = jn.value_and_grad(net, loss, read=read)(net.init(key), x, x, weights)
        assert grads == ((), ())
        assert np.isfinite(value)
