"""Every reading against the gradients of `vmap(jax.grad)`, formed one by one."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_layers import tied, used_in_unlike_ways

import jaxnet as jn
from jaxnet import per_example

# Sums of hundreds of terms in another order, at 1.1e-16 each, relative to the largest value of each leaf.
TOLERANCE = 1e-11


def gains():
    """y = x * scale * gain, a vector and a scalar as parameters, whose gradients have positions."""

    def forward(params, x):
        scale, gain = params
        return x * (scale * gain).reshape((1,) * (x.ndim - 1) + gain.shape), x

    def backward(params, x, dy):
        scale, gain = params
        wide = gain.reshape((1,) * (x.ndim - 1) + gain.shape)
        return (jn.Each((dy * x * wide).sum(-1), ndim=0), jn.Each(dy * x * scale)), dy * scale * wide

    return jn.Layer(lambda key: (jnp.asarray(1.5), jax.random.normal(key, (4,))), forward, backward)


NETWORKS = {
    # name: network, positions. Pairs of positions are taken, or a layer's gradients formed: for norms T (o + i) < o i
    # decides, with a total after them 2 T (o + i) <= o i.
    "dense": (jn.dense(4, 3), ()),
    "deep": (jn.mlp((4, 6, 5, 3), jn.tanh), ()),
    "residual": (jn.chain(jn.residual(jn.chain(jn.dense(4, 4), jn.sigmoid)), jn.dense(4, 3)), ()),
    "few positions": (jn.mlp((4, 6, 3), jn.tanh), (2,)),
    "few positions, wide": (jn.mlp((4, 12, 12, 3), jn.tanh), (2,)),
    "many positions": (jn.mlp((4, 6, 3), jn.tanh), (7,)),
    "a grid of positions": (jn.mlp((4, 6, 3), jn.tanh), (2, 3)),
    "repeated, with positions": (jn.repeat(jn.chain(jn.dense(4, 4), jn.tanh), 3), (2,)),
    "repeated and recomputed": (jn.repeat(jn.recompute(jn.residual(jn.mlp((4, 5, 4), jn.tanh))), 2), ()),
    "repeated repeats": (jn.repeat(jn.repeat(jn.chain(jn.dense(4, 4), jn.tanh), 2), 3), ()),
    "repeated, with parameters used twice": (jn.repeat(tied(4), 2), ()),
    "parameters used twice": (tied(4), ()),
    "parameters used twice, with positions": (tied(4), (5,)),
    "a matrix used in unlike ways": (used_in_unlike_ways(4), ()),
    "a matrix used in unlike ways, with positions": (used_in_unlike_ways(4), (5,)),
    "repeated, with a matrix used in unlike ways": (jn.repeat(used_in_unlike_ways(4), 2), (2,)),
    "parameters without weights": (jn.chain(gains(), jn.dense(4, 3)), (2,)),
}
EXAMPLES = 6
WEIGHTS = np.array([0.5, -1.0, 0.0, 2.0, 0.25, 1.0])


def factored_and_formed(net, positions, key, examples=EXAMPLES):
    """What the backward pass returns, and each example's gradient by autodiff."""
    params_key, x_key, y_key = jax.random.split(key, 3)
    params = jax.tree.map(lambda leaf: leaf + 0.1, net.init(params_key))
    x = jax.random.normal(x_key, (examples, *positions, 4))
    y = jax.random.normal(y_key, (examples, *positions, jax.eval_shape(net.apply, params, x).shape[-1]))
    loss = jn.losses.half_squared_error

    def loss_of_one(params, x, y):
        return loss.forward(net.apply(params, x[None]), y[None])[0]

    @jax.jit
    def both(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, loss.backward(z, y))
        return dparams, jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(params, x, y)

    return both(params, x, y)


def flat(formed):
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(formed)], axis=1)


def direction(formed):
    """Some tree of the parameters' structure."""
    return jax.tree.map(lambda g: jnp.cos(jnp.arange(g[0].size)).reshape(g.shape[1:]), formed)


def a_norm(formed):
    """Longer than some of the gradients, shorter than others."""
    return float(np.median(np.sqrt((flat(formed) ** 2).sum(1))))


def weighted(weights, formed):
    return jax.tree.map(lambda g: np.tensordot(weights, g, 1), formed)


def clipped_by_hand(formed, most):
    factors = np.minimum(1, most / np.sqrt((flat(formed) ** 2).sum(1)))
    return weighted(factors / EXAMPLES, formed)


def noise_scale_by_hand(g):
    noise = g.var(0, ddof=1).sum()
    return noise / ((g.mean(0) ** 2).sum() - noise / EXAMPLES)


READINGS = {
    # name: the reading of (dparams, formed), where formed only gives it its other arguments; what it should be.
    "each": (lambda d, _: per_example.each(d), lambda formed: formed),
    "mean": (lambda d, _: per_example.mean(d), lambda formed: weighted(np.full(EXAMPLES, 1 / EXAMPLES), formed)),
    "total": (lambda d, _: per_example.total(d, jnp.asarray(WEIGHTS)), lambda formed: weighted(WEIGHTS, formed)),
    "squared_norms": (lambda d, _: per_example.squared_norms(d), lambda formed: (flat(formed) ** 2).sum(1)),
    "squared_norms_by_leaf": (
        lambda d, _: per_example.squared_norms_by_leaf(d),
        lambda formed: jax.tree.map(lambda g: (flat(g) ** 2).sum(1), formed),
    ),
    "norms": (lambda d, _: per_example.norms(d), lambda formed: np.sqrt((flat(formed) ** 2).sum(1))),
    "clipped_mean": (
        lambda d, formed: per_example.clipped_mean(d, a_norm(formed)),
        lambda formed: clipped_by_hand(formed, a_norm(formed)),
    ),
    "second_moment": (
        lambda d, _: per_example.second_moment(d),
        lambda formed: jax.tree.map(lambda g: (g**2).mean(0), formed),
    ),
    "variance": (lambda d, _: per_example.variance(d), lambda formed: jax.tree.map(lambda g: g.var(0), formed)),
    "signal_to_noise": (
        lambda d, _: per_example.signal_to_noise(d),
        lambda formed: jax.tree.map(lambda g: g.mean(0) ** 2 / g.var(0), formed),
    ),
    "noise_scale": (lambda d, _: per_example.noise_scale(d), lambda formed: noise_scale_by_hand(flat(formed))),
    "dot": (
        lambda d, formed: per_example.dot(d, direction(formed)),
        lambda formed: flat(formed) @ np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(direction(formed))]),
    ),
    "gram": (lambda d, _: per_example.gram(d), lambda formed: flat(formed) @ flat(formed).T),
}


def assert_close(actual, expected, name=""):
    assert jax.tree.structure(actual) == jax.tree.structure(expected), name
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max(), err_msg=name)


def assert_every_reading(dparams, formed, but=()):
    """All of them in one program, and each what it should be."""
    formed, names = jax.device_get(formed), [name for name in READINGS if name not in but]
    actual = jax.jit(lambda dparams: {name: READINGS[name][0](dparams, formed) for name in names})(dparams)
    for name in names:
        assert_close(actual[name], READINGS[name][1](formed), name)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_reading_is_that_of_the_gradients_formed_one_by_one(network, x64, key):
    assert_every_reading(*factored_and_formed(*NETWORKS[network], key))


@cache
def two_batches():
    keys = jax.random.split(jax.random.key(2026), 2)
    batches = [factored_and_formed(*NETWORKS["few positions"], key) for key in keys]
    return [(dparams, jax.device_get(formed)) for dparams, formed in batches]


@pytest.mark.parametrize("name", READINGS)
def test_every_reading_is_the_same_without_jit_and_under_vmap(name, x64):
    read, expectation = READINGS[name]
    batches = two_batches()
    dparams, formed = batches[0]
    assert_close(read(dparams, formed), expectation(formed), name)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(dparams for dparams, _ in batches))
    vmapped = jax.jit(jax.vmap(lambda dparams: read(dparams, formed)))(stacked)
    if name in ("clipped_mean", "dot"):  # their other argument is the first batch's
        assert_close(jax.tree.map(lambda leaf: leaf[0], vmapped), expectation(formed), name)
    else:
        expected = [expectation(formed) for _, formed in batches]
        assert_close(vmapped, jax.tree.map(lambda *leaves: np.stack(leaves), *expected), name)


def test_clipping_every_part_by_its_own_norm(x64, key):
    dparams, formed = factored_and_formed(jn.mlp((4, 6, 3), jn.tanh), (), key)

    by_layer = (0.3, 1.0, 0.6)
    expected = tuple(
        clipped_by_hand(part, most) if jax.tree.leaves(part) else ()
        for part, most in zip(formed, by_layer, strict=True)
    )
    by_leaf = jax.tree.map(lambda _: 0.4, formed)
    both = jax.jit(lambda dparams: [per_example.clipped_mean(dparams, most) for most in (by_layer, by_leaf)])
    of_layers, of_leaves = both(dparams)
    assert_close(of_layers, expected)
    assert_close(of_leaves, jax.tree.map(lambda g: clipped_by_hand(g, 0.4), formed))


def test_clipped_weighs_every_example_and_leaves_out_those_of_weight_zero(x64, key):
    dparams, formed = factored_and_formed(jn.mlp((4, 6, 3), jn.tanh), (), key)
    most, weights = a_norm(formed), np.array([0.25, 0.5, -0.25, 0.125, 0.0, 0.0])
    factors = np.minimum(1, most / np.sqrt((flat(formed) ** 2).sum(1)))
    assert_close(per_example.clipped(most)(dparams, jnp.asarray(weights)), weighted(weights * factors, formed))
    # The heaviest counts a quarter, the others in proportion.
    of_four = weighted(weights / 0.5 * factors / 4, formed)
    assert_close(per_example.clipped(most, batch_size=4)(dparams, jnp.asarray(weights)), of_four)


def test_an_example_without_gradient_is_clipped_to_nothing_and_differentiable(x64):
    def clipped_sum(scale):
        dparams = jn.Each(jnp.array([[0.0, 0.0], [3.0, 4.0]]) * scale)
        return per_example.clipped_mean(dparams, 1.0).sum()

    # (3, 4) has length 5 and becomes (3, 4) / 5, whatever the scale; its mean with (0, 0) sums to 7 / 10.
    value, slope = jax.value_and_grad(clipped_sum)(1.0)
    np.testing.assert_allclose([value, slope], [0.7, 0.0], atol=1e-15)


def test_variance_is_never_negative(key):
    """In float32 the difference of two equal numbers can be."""
    dparams = jn.Each(jnp.full((7, 50), 0.1) * jax.random.normal(key, (1, 50)))
    assert float(per_example.variance(dparams).min()) >= 0


def test_norms_and_noise_scale_do_not_depend_on_the_size_of_the_gradient(key):
    dparams, _ = factored_and_formed(jn.mlp((4, 6, 3), jn.tanh), (), key)
    norms, noise_scale = per_example.norms(dparams), per_example.noise_scale(dparams)
    for size in (1e-30, 1e20, 2e37):
        longer = jax.tree.map(
            lambda leaf, size=size: (
                replace(leaf, dz=leaf.dz * size) if isinstance(leaf, jn.Outer) else jn.Each(leaf.g * size)
            ),
            dparams,
            is_leaf=lambda leaf: isinstance(leaf, per_example.Factored),
        )
        np.testing.assert_allclose(per_example.norms(longer), size * norms, rtol=1e-6)
        np.testing.assert_allclose(per_example.noise_scale(longer), noise_scale, rtol=1e-4)


@pytest.mark.parametrize("positions", [(), (2,), (7,)])
def test_gram_between_two_batches(positions, x64, key):
    net = jn.mlp((4, 6, 3), jn.tanh)
    dparams, formed = factored_and_formed(net, positions, key)
    others, others_formed = factored_and_formed(net, positions, key, examples=4)
    assert_close(jax.jit(per_example.gram)(dparams, others), flat(formed) @ flat(others_formed).T)


@pytest.mark.parametrize("positions", [2, 7], ids=["pairs of positions", "gradients formed"])
def test_with_positions_the_smaller_way_is_taken(positions):
    """6 x 4 = 24 numbers in a gradient; 2 T^2 is 8 or 98."""
    outer = jn.Outer(jnp.ones((EXAMPLES, positions, 6)), jnp.ones((EXAMPLES, positions, 4)))
    program = str(jax.make_jaxpr(per_example.squared_norms)(outer))
    assert ("f32[6,6,4]" in program) == (positions == 7)
    assert (f"f32[6,{positions},{positions}]" in program) == (positions == 2)


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (
            lambda: per_example.second_moment(jn.Each(jnp.ones((0, 4)))),
            "per_example.second_moment: expected at least one example, got an empty batch",
        ),
        (
            lambda: per_example.clipped_mean(jn.Each(jnp.ones((0, 4))), 1.0),
            "per_example.clipped_mean: expected at least one example, got an empty batch",
        ),
        (
            lambda: per_example.noise_scale(jn.Each(jnp.ones((1, 4)))),
            "per_example.noise_scale: expected at least two examples, got 1",
        ),
        (
            lambda: per_example.variance(jn.Each(jnp.ones((0, 4)))),
            "per_example.variance: expected at least one example, got an empty batch",
        ),
        (
            lambda: per_example.signal_to_noise(jn.Each(jnp.ones((0, 4)))),
            "per_example.signal_to_noise: expected at least one example, got an empty batch",
        ),
        (lambda: per_example.norms(()), "per_example.norms: expected parameters, got none"),
        (lambda: per_example.noise_scale(()), "per_example.noise_scale: expected parameters, got none"),
        (lambda: per_example.squared_norms(()), "per_example.squared_norms: expected parameters, got none"),
        (lambda: per_example.gram(((), ())), "per_example.gram: expected parameters, got none"),
    ],
)
def test_misuse_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse()
    assert str(error.value) == message


# The network and the batch of the memory and operations below: compiled, never run.
LARGE, LARGE_BATCH = (784, 512, 512, 10), 1024


def compiled(reading):
    net, loss = jn.mlp(LARGE), jn.losses.softmax_cross_entropy_with_integer_labels

    def program(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, loss.backward(z, y))
        return reading(dparams)

    x = jax.ShapeDtypeStruct((LARGE_BATCH, LARGE[0]), jnp.float32)
    y = jax.ShapeDtypeStruct((LARGE_BATCH,), jnp.int32)
    return jax.jit(program).lower(jax.eval_shape(net.init, jax.random.key(0)), x, y).compile()


@pytest.fixture(scope="module")
def gradient():
    return compiled(per_example.mean)


@pytest.mark.parametrize(
    "reading", [per_example.squared_norms, partial(per_example.clipped_mean, max_norm=1.0)], ids=["norms", "clipped"]
)
def test_norms_and_clipping_take_at_most_1_5_times_the_memory_of_the_gradient(reading, gradient):
    memory = compiled(reading).memory_analysis().temp_size_in_bytes
    assert memory <= 1.5 * gradient.memory_analysis().temp_size_in_bytes


def test_all_first_order_readings_together_take_less_than_1_6_times_the_operations_of_the_gradient(gradient):
    def everything(dparams):
        return (
            per_example.mean(dparams),
            per_example.squared_norms(dparams),
            per_example.squared_norms_by_leaf(dparams),
            per_example.second_moment(dparams),
            per_example.variance(dparams),
            per_example.signal_to_noise(dparams),
            per_example.noise_scale(dparams),
        )

    assert compiled(everything).cost_analysis()["flops"] < 1.6 * gradient.cost_analysis()["flops"]


@pytest.mark.usefixtures("without_shape_annotations")
def test_directions_of_another_shape_are_refused_by_name():
    dparams = jn.Dense(W=jn.Outer(jnp.ones((4, 2)), jnp.ones((4, 3))), b=jn.Each(jnp.ones((4, 2))))
    for W, b, message in (
        (
            (3, 2),
            (2,),
            "per_example.dot: expected a direction of shape (2, 3), the parameter's, or many, (n, 2, 3), got (3, 2)",
        ),
        (
            (5, 2, 3),
            (2,),
            "per_example.dot: expected as many directions at each parameter, got one at some, many at others",
        ),
    ):
        with pytest.raises(ValueError) as error:
            per_example.dot(dparams, jn.Dense(jnp.ones(W), jnp.ones(b)))
        assert str(error.value) == message


OF_A_GRADIENT = {
    "total": per_example.total,
    "mean": per_example.mean,
    "each": per_example.each,
    "norms": per_example.norms,
    "squared_norms": per_example.squared_norms,
    "squared_norms_by_leaf": per_example.squared_norms_by_leaf,
    "second_moment": per_example.second_moment,
    "variance": per_example.variance,
    "signal_to_noise": per_example.signal_to_noise,
    "noise_scale": per_example.noise_scale,
    "dot": lambda grads: per_example.dot(grads, grads),
    "gram": per_example.gram,
    "formed": per_example.formed,
    "clipped_mean": lambda grads: per_example.clipped_mean(grads, 1.0),
    "clipped": lambda grads: per_example.clipped(1.0)(grads, jnp.ones(4) / 4),
}


@pytest.mark.parametrize("reading", OF_A_GRADIENT)
def test_a_mean_gradient_in_the_place_of_dparams_is_refused_by_name(reading):
    """It tells of no example any more."""
    dparams = jn.Dense(W=jn.Outer(jnp.ones((4, 2)), jnp.ones((4, 3))), b=jn.Each(jnp.ones((4, 2))))
    with pytest.raises(ValueError) as error:
        OF_A_GRADIENT[reading]((per_example.mean(dparams), ()))
    assert str(error.value) == (
        f"per_example.{reading}: expected dparams as backward returns them, with a form such as Outer or Each for "
        "every parameter, got an array of shape (2, 3) at dparams[0].W"
    )


@pytest.mark.usefixtures("without_shape_annotations")
def test_forms_in_the_place_of_a_direction_and_a_gradient_in_that_of_another_batch_are_refused_by_name():
    dparams = jn.Dense(W=jn.Outer(jnp.ones((4, 2)), jnp.ones((4, 3))), b=jn.Each(jnp.ones((4, 2))))
    with pytest.raises(ValueError) as error:
        per_example.dot(dparams, dparams)
    assert str(error.value) == (
        "per_example.dot: expected a direction of shape (2, 3), the parameter's, got the form Outer; products of two "
        "examples' gradients are per_example.gram"
    )
    with pytest.raises(ValueError) as error:
        per_example.gram(dparams, per_example.mean(dparams))
    assert str(error.value) == (
        "per_example.gram: expected other as backward returns them, with a form such as Outer or Each for every "
        "parameter, got an array of shape (2, 3) at other.W"
    )
