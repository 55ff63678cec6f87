"""Clipped gradients are no longer than C, whatever the type, the form and the size of the numbers."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet as jn
from jaxnet import per_example
from jaxnet.factored import Stacked, Sum

# For each type: powers of ten of the gradients, and of C; by how much of its length a clipped gradient may be too
# short, in units of the type. In bfloat16 factors and outcome are each rounded, and the margin is another half; float16
# is rounded once, but its numbers below 6e-5 have fewer digits: there C is no smaller.
TYPES = {
    "float16": ((-2, -1, 0, 1, 2), (-2, 0, 1), 4),
    "bfloat16": ((-30, -15, 0, 15, 30), (-30, 0, 30), 4),
    "float32": ((-30, -20, -10, 0, 10, 20, 30), (-30, -15, 0, 15, 30), 100),
    "float64": ((-200, -100, 0, 100, 200), (-200, -50, 0, 50, 200), 100),
}
# How the size of a gradient is shared out between dz and a.
SHARES = (0.0, 0.3, 0.5, 1.0)


def forms(rng, dtype, dz_scales, a_scales):
    """Every form, with a leading axis of cases, of one example each, and the gradients in twice the digits."""

    def draw(scales, *shape):
        numbers = rng.standard_normal((len(scales), *shape))
        return jnp.asarray(numbers / np.abs(numbers).max() * scales.reshape(-1, *(1,) * len(shape)), dtype)

    def outer(*leading):
        return jn.Outer(draw(dz_scales, *leading, 5), draw(a_scales, *leading, 4))

    def each(*shape, ndim=1):
        return jax.vmap(lambda g: jn.Each(g, ndim))(draw(both, 1, *shape))

    both = dz_scales * a_scales
    raw = draw(both, 1, 3, 6)
    made = {
        "outer": outer(1),
        "pairs of positions": outer(1, 2),
        "gradients formed": outer(1, 7),
        "each": each(6),
        "each, with positions": jax.vmap(jn.Each)(raw),
        "a scalar": each(ndim=0),
        "a sum": Sum((outer(1), each(5, 4, ndim=2))),
        "a sum, with positions": Sum((outer(1, 2), each(5, 4, ndim=2))),
        "stacked": Stacked(outer(3, 1)),
        "stacked, with positions": Stacked(outer(3, 1, 2)),
    }
    made = dict(sorted(made.items()))  # as JAX keeps dictionaries
    expected = {name: formed(form) for name, form in made.items()}
    return made, expected | {"each, with positions": np.asarray(raw).astype(np.longdouble).sum(2).reshape(len(raw), -1)}


def formed(form):
    """(cases, numbers) in the long double of the machine."""
    if isinstance(form, Sum):
        return sum(map(formed, form.forms))
    if isinstance(form, Stacked):
        dz, a = (np.asarray(array).astype(np.longdouble) for array in (form.layers.dz, form.layers.a))
        dz, a = (array.reshape(*array.shape[:2], -1, array.shape[-1]) for array in (dz, a))
        return np.einsum("kntpo,kntpi->knoi" if dz.ndim == 5 else "knto,knti->knoi", dz, a).reshape(len(dz), -1)
    if isinstance(form, jn.Outer):
        dz, a = (np.asarray(array).astype(np.longdouble) for array in (form.dz, form.a))
        dz, a = (array.reshape(len(array), -1, array.shape[-1]) for array in (dz, a))
        return np.einsum("kto,kti->koi", dz, a).reshape(len(dz), -1)
    return np.asarray(form.g).astype(np.longdouble).reshape(len(form.g), -1)


def lengths(flat):
    return np.sqrt((np.asarray(flat).astype(np.longdouble) ** 2).sum(1))


def flat(leaf):
    return np.asarray(leaf).astype(np.longdouble).reshape(len(leaf), -1)


def cases(dtype):
    """dz's and a's scales and C, each pair of a gradient's and a norm's size."""
    sizes, norms, _ = TYPES[dtype]
    grid = np.array(
        [(10.0 ** (e * share), 10.0 ** (e * (1 - share)), 10.0**c) for e in sizes for share in SHARES for c in norms]
    )
    return grid.T


def assert_clipped(actual, expected, most, allowed):
    """Each no longer than C, by a few roundings shorter than it should be, in the same direction."""
    length, longest = lengths(expected), np.asarray(most).astype(np.longdouble)
    assert (lengths(actual) <= longest).all()
    should = np.minimum(1, longest / length)[:, None] * expected
    assert (lengths(actual - should) <= allowed * np.minimum(length, longest)).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_every_form_is_clipped_to_at_most_its_norm(dtype, x64):
    dz_scales, a_scales, most = cases(dtype)
    made, expected = forms(np.random.default_rng(0), dtype, dz_scales, a_scales)
    most = jnp.asarray(most, "float64" if dtype == "float64" else "float32")
    by_form = jax.jit(jax.vmap(lambda form, C: per_example.clipped_mean(form, dict.fromkeys(made, C))))(made, most)
    allowed = TYPES[dtype][2] * float(jnp.finfo(dtype).eps)
    for name, leaf in by_form.items():
        assert leaf.dtype == dtype
        assert_clipped(flat(leaf), expected[name], most, allowed)
    whole = jax.jit(jax.vmap(per_example.clipped_mean))(made, most)
    whole = np.concatenate([flat(leaf) for leaf in whole.values()], axis=1)
    assert_clipped(whole, np.concatenate([expected[name] for name in made], axis=1), most, allowed)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_is_summed_in_a_long_type_is_clipped_to_at_most_its_norm(dtype):
    """As in mixed precision: short factors, and float32 comes out, where C may be as small as float32 is."""
    dz_scales, a_scales, most = cases(dtype)
    most = jnp.asarray(most / 1e6 if dtype == "float16" else most, jnp.float32)
    made, expected = forms(np.random.default_rng(0), dtype, dz_scales, a_scales)
    made = {name: form.summed_in(jnp.float32) for name, form in made.items()}
    by_form = jax.jit(jax.vmap(lambda form, C: per_example.clipped_mean(form, dict.fromkeys(made, C))))(made, most)
    for name, leaf in by_form.items():
        assert leaf.dtype == jnp.float32
        assert_clipped(flat(leaf), expected[name], most, 3 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_network_in_mixed_precision_is_clipped_to_at_most_its_norm(dtype, key):
    net, loss = jn.mixed_precision(jn.mlp((20, 64, 10), jn.tanh), dtype), jn.losses.half_squared_error
    params, x, y = net.init(key), 3 * jax.random.normal(key, (60, 1, 20)), jax.random.normal(key, (60, 1, 10))
    clip = jn.value_and_grad(net, loss, read=per_example.clipped(0.01))
    _, grads = jax.jit(jax.vmap(clip, (None, 0, 0)))(params, x, y)
    length = lengths(np.concatenate([flat(leaf) for leaf in jax.tree.leaves(grads)], axis=1))
    assert (length <= 0.01).all()
    assert (length >= 0.01 * (1 - 2 * float(jnp.finfo(dtype).eps) - 1e-5)).all()


@pytest.mark.parametrize("positions", [2, 7], ids=["pairs of positions", "gradients formed"])
def test_positions_that_cancel_do_not_make_a_clipped_gradient_too_long(positions):
    """Of sum_t dz_t a_t^T next to nothing is left, which float32 cannot tell from its rounding."""
    rng, left = np.random.default_rng(0), 10.0 ** -np.arange(0, 8, 0.25)
    dz, a = rng.standard_normal((len(left), 1, positions, 12)), rng.standard_normal((len(left), 1, 1, 4))
    dz = dz - dz.mean(2, keepdims=True) + left.reshape(-1, 1, 1, 1)
    outer = jn.Outer(
        jnp.asarray(dz, jnp.float32), jnp.asarray(np.broadcast_to(a, (len(left), 1, positions, 4)), jnp.float32)
    )
    each = jax.vmap(jn.Each)(outer.dz)
    for form in (outer, each):
        most = jnp.asarray(lengths(formed(form)) / 3, jnp.float32)
        length = lengths(flat(jax.jit(jax.vmap(per_example.clipped_mean))(form, most)))
        assert (length <= np.asarray(most).astype(np.longdouble)).all()
        assert (length[:8] > 0.9 * np.asarray(most)[:8]).all()


def test_numbers_that_all_round_to_the_same_side_do_not_make_a_clipped_gradient_too_long():
    """Two positions alike, of numbers alike: weighted, each is up to 2^-9 too long, and so is their sum."""
    ones = jnp.ones((1, 2, 16), jnp.bfloat16)
    outer = jn.Outer(ones, ones, dtype=jnp.dtype("float32"))
    most = np.linspace(1, 2, 64, dtype=np.float32)
    clip = jax.jit(jax.vmap(per_example.clipped_mean, (None, 0)))
    length = lengths(flat(clip(outer, jnp.asarray(most))))
    assert (length <= most).all()
    assert (length > (1 - 2**-7) * most).all()


def test_examples_of_all_sizes_in_one_batch_count_alike():
    """From 1e-30 to 1e30, clipped to 1e-30: the smallest of their factors is 1e-60."""
    sizes = 10.0 ** np.arange(-30, 31, 5)
    outer = jn.Outer(jnp.asarray(np.diag(sizes**0.5), jnp.float32), jnp.asarray(np.diag(sizes**0.5), jnp.float32))
    clipped = np.asarray(jax.jit(partial(per_example.clipped_mean, max_norm=1e-30))(outer)) * len(sizes)
    # The product's zeros are exact; margin and rounding take 4e-6.
    np.testing.assert_allclose(clipped, np.diag(np.full(len(sizes), 1e-30)), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_a_gradient_that_is_no_number_is_not_hidden(bad):
    """Nor one whose norm, sqrt(8) 3e38, is beyond float32."""
    g = jnp.ones((3, 8)).at[1].set(bad)
    for batch_size in (None, 3):
        assert jnp.isnan(jax.jit(per_example.clipped(1.0, batch_size))(jn.Each(g), None)).all()
    expected = jax.jit(partial(per_example.clipped_mean, max_norm=1.0))(jn.Each(jnp.ones((2, 8))))
    actual = jax.jit(per_example.clipped(1.0))(jn.Each(g), jnp.array([0.5, 0.0, 0.5]))
    np.testing.assert_array_equal(actual, expected)


def test_a_norm_that_is_only_known_when_it_runs_and_is_not_positive_makes_nan():
    clip = jax.jit(lambda C: per_example.clipped_mean(jn.Each(jnp.ones((3, 4))), C))
    for C in (-1.0, 0.0, jnp.nan):
        assert jnp.isnan(clip(C)).all()
    # 1e30 is beyond any of these, and infinity too: nothing is clipped.
    for C in (1e30, jnp.inf):
        np.testing.assert_array_equal(clip(C), np.ones(4))
    # What is known may be beyond the type, or below it.
    np.testing.assert_array_equal(per_example.clipped_mean(jn.Each(jnp.ones((3, 4))), 1e39), np.ones(4))
    assert jnp.isnan(per_example.clipped_mean(jn.Each(jnp.ones((3, 4))), 1e-50)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_clipping_to_a_short_type_can_be_differentiated(dtype):
    def length(scale):
        g = (jnp.array([[3.0, 4.0]]) * scale).astype(dtype)
        return (per_example.clipped_mean(jn.Each(g), 10.0).astype(jnp.float32) ** 2).sum()

    # Not clipped, |g|^2 = 25 s^2; (3, 4) are exact in both types.
    np.testing.assert_allclose(jax.jit(jax.value_and_grad(length))(1.0), (25.0, 50.0), rtol=1e-6)


WEIGHTS = {
    "fractions": [0.5, 0.25, 0.125, 0.1, 0.7],
    "some left out": [0.25, 0.0, 0.25, 0.25, 0.25],
    "of either sign": [0.5, -0.25, 1.5, 0.0, -2.0],
    "none": None,
}


NET, LOSS = jn.mlp((3, 4, 2), jn.tanh), jn.losses.half_squared_error
# C is beyond all gradients, or below most; each compiles once for all weights.
NOT_CLIPPED = {B: jax.jit(jn.value_and_grad(NET, LOSS, read=per_example.clipped(1e3, B))) for B in (None, 8)}
CLIPPED = jax.jit(jn.value_and_grad(NET, LOSS, read=per_example.clipped(0.1, 8)))


@jax.jit
def value_and_grad_by_jax(params, x, y, weights):
    def weighted_loss(params):
        losses = LOSS.forward(NET.apply(params, x), y)
        return losses.mean() if weights is None else (weights * losses).sum()

    return jax.value_and_grad(weighted_loss)(params)


@pytest.fixture
def problem(x64, key):
    keys = jax.random.split(key, 3)
    return NET.init(keys[0]), jax.random.normal(keys[1], (5, 3)), jax.random.normal(keys[2], (5, 2))


def assert_close(actual, expected):
    # Sums of a few products in another order, at 1.1e-16 each.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14), actual, expected)


@pytest.mark.parametrize("name", WEIGHTS)
def test_where_nothing_is_clipped_the_gradient_is_that_of_the_loss(name, problem):
    """With a batch size B it is that of the loss divided by B times the largest weight."""
    weights = None if WEIGHTS[name] is None else jnp.array(WEIGHTS[name])
    expected, gradient = value_and_grad_by_jax(*problem, weights)
    largest = 1 / 5 if weights is None else float(jnp.abs(weights).max())
    for batch_size, times in ((None, 1.0), (8, 1 / (8 * largest))):
        value, grads = NOT_CLIPPED[batch_size](*problem, weights)
        assert_close((value, grads), (expected, jax.tree.map(lambda leaf, times=times: times * leaf, gradient)))


@pytest.mark.parametrize("name", WEIGHTS)
def test_an_examples_share_is_at_most_c_over_the_batch_size(name, problem):
    """Taken away by weight 0. To the heaviest the others are in proportion: it stays, unless all are alike."""
    weights = jnp.ones(5) if WEIGHTS[name] is None else jnp.array(WEIGHTS[name])
    heaviest = () if name in ("none", "some left out") else (int(jnp.abs(weights).argmax()),)
    _, whole = CLIPPED(*problem, weights)
    for example in set(range(5)).difference(heaviest):
        _, without = CLIPPED(*problem, weights.at[example].set(0))
        moved = jax.tree.leaves(jax.tree.map(jnp.subtract, whole, without))
        share = float(jnp.abs(weights[example]) / jnp.abs(weights).max())
        # What moves is a difference of two sums, of five such shares.
        assert np.sqrt(sum((leaf**2).sum() for leaf in moved)) <= 0.1 / 8 * (share + 1e-14)


@pytest.mark.usefixtures("optax_promotion")
def test_an_empty_batch_of_a_given_batch_size_has_a_gradient_of_zeros(problem):
    """As Poisson sampling draws it now and then; its loss is 0, and noise is added as ever."""
    params, x, y = problem
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), params)
    for weights in (None, jnp.ones(0)):
        assert_close(CLIPPED(params, x[:0], y[:0], weights), (0.0, zeros))
    assert_close(CLIPPED(params, x, y, jnp.zeros(5)), (0.0, zeros))
    optimizer = optax.chain(jn.optimizers.private_noise(0.1, 1.0, 8), optax.sgd(0.1))
    step = jn.make_step(NET, LOSS, optimizer, value_and_grad=lambda net, loss: CLIPPED)
    state, metrics = step(jn.TrainState.create(params, optimizer), x[:0], y[:0])
    assert metrics["loss"] == 0
    assert all((new != old).all() for new, old in zip(*map(jax.tree.leaves, (state.params, params)), strict=True))


EACH = jn.Each(jnp.ones((5, 4)))


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (
            lambda: per_example.clipped_mean(EACH, -0.1),
            "per_example.clipped_mean: expected max_norm to be one positive and finite number, got -0.1",
        ),
        (
            lambda: per_example.clipped(float("nan")),
            "per_example.clipped: expected max_norm to be one positive and finite number, got nan",
        ),
        (
            lambda: per_example.clipped(jnp.inf),
            "per_example.clipped: expected max_norm to be one positive and finite number, got inf",
        ),
        (
            lambda: per_example.clipped((1.0, {"W": 0})),
            "per_example.clipped: expected max_norm[1]['W'] to be one positive and finite number, got 0",
        ),
        (
            lambda: per_example.clipped(jnp.ones(3)),
            "per_example.clipped: expected max_norm to be one positive and finite number, got shape (3,)",
        ),
        (
            lambda: per_example.clipped(1.0, 0),
            "per_example.clipped: expected batch_size to be at least 1, got 0",
        ),
        (
            lambda: per_example.clipped(1.0, "8"),
            "per_example.clipped: expected batch_size to be at least 1, got '8'",
        ),
        (
            lambda: per_example.clipped("1"),
            "per_example.clipped: expected max_norm to be one positive and finite number, got '1'",
        ),
        (
            lambda: per_example.clipped((1.0, None)),
            "per_example.clipped: expected max_norm[1] to be one positive and finite number, got None",
        ),
        (
            lambda: per_example.clipped_mean((EACH, EACH), (1.0, 2.0, 3.0)),
            "per_example.clipped_mean: expected max_norm to be a number, or a pytree that begins as the parameters do, "
            "got PyTreeDef((*, *, *))",
        ),
        (
            lambda: per_example.clipped(1.0)(jn.Each(jnp.ones((0, 4))), None),
            "per_example.clipped: expected at least one example, got an empty batch",
        ),
        (
            lambda: per_example.clipped(1.0)(EACH, jnp.ones(4)),
            "per_example.clipped: expected weights of shape (5,), one for each example, got (4,)",
        ),
    ],
)
def test_misuse_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse()
    assert str(error.value) == message
    with pytest.raises(ValueError) as error:
        jax.jit(partial(misuse))()
    assert str(error.value) == message


def test_what_a_mask_leaves_out_has_no_share_in_the_norm_and_no_gradient(x64, key):
    net, loss = jn.mlp((3, 4, 4, 2), jn.tanh), jn.losses.half_squared_error
    params, x = net.init(key), jax.random.normal(key, (5, 3))
    y, weights = jnp.cos(x[:, :2]), jnp.array([0.5, 0.0, -1.0, 0.25, 0.25])
    frozen_first = (False, True, jn.Dense(W=True, b=False), True, True)

    @jax.jit
    def both(params):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, loss.backward(z, y))
        trained = (dparams[2].W, dparams[4])
        read = per_example.clipped(0.3, mask=frozen_first)
        by_parts = (9.0, 9.0, jn.Dense(W=0.3, b=0.3), 9.0, 0.2)
        return (
            (read(dparams, weights), per_example.clipped(0.3)(trained, weights)),
            (per_example.clipped_mean(dparams, 0.3, mask=frozen_first), per_example.clipped_mean(trained, 0.3)),
            (
                per_example.clipped_mean(dparams, by_parts, mask=frozen_first),
                per_example.clipped_mean(trained, (0.3, 0.2)),
            ),
        )

    for actual, (of_W, of_last) in both(params):
        expected = jax.tree.map(jnp.zeros_like, params)
        expected = (*expected[:2], jn.Dense(W=of_W, b=expected[2].b), (), of_last)
        chex.assert_trees_all_equal(actual, expected)


@pytest.mark.usefixtures("without_shape_annotations")
def test_masks_of_another_kind_are_refused_by_name(key):
    net = jn.mlp((3, 2), jn.tanh)
    x = jnp.ones((2, 3))
    params = net.init(key)

    def gradient(mask):
        read = per_example.clipped(1.0, mask=mask)
        return jn.value_and_grad(net, jn.losses.half_squared_error, read=read)(params, x, x[:, :2])

    for mask, message in (
        ((1.0,), "per_example.clipped: expected mask[0] to be True or False, got 1.0"),
        (
            (True, False),
            "per_example.clipped: expected a mask that begins as the parameters do, got PyTreeDef((*, *))",
        ),
    ):
        with pytest.raises(ValueError) as error:
            gradient(mask)
        assert str(error.value) == message
