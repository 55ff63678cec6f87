"""Losses with options, of positions that do not count, and those that lack a root or samples."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import losses

SHAPE = (3, 2, 4)
TORCH = json.loads((Path(__file__).parent / "losses_by_torch.json").read_text())
MASK = jnp.array([[True, False], [False, False], [True, True]])
WEIGHTED = losses.cross_entropy(
    label_smoothing=0.1, class_weights=[0.5, 1.0, 2.0, 0.0], ignore=-1, over_positions="mean"
)
SMOOTH = losses.cross_entropy(ignore=-1)
MEAN_COUNTS = losses.masked(losses.poisson_nll_loss, over_positions="mean")
LIKELIHOODS = {
    "cross_entropy": SMOOTH,
    "huber_loss": losses.huber_loss(delta=0.7),
    "masked huber_loss": losses.masked(losses.huber_loss(delta=0.7)),
    "poisson_nll_loss": losses.poisson_nll_loss,
}
CHECKED = LIKELIHOODS | {
    "cross_entropy, every option": WEIGHTED,
    "masked poisson_nll_loss, mean": MEAN_COUNTS,
    "sigmoid_focal_loss": losses.sigmoid_focal_loss(alpha=0.25, gamma=0.5),
}


def example(name, key):
    """Outputs and targets of the kind that the loss takes; the second example has no position that counts."""
    z_key, y_key = jax.random.split(key)
    z, y = jax.random.normal(z_key, SHAPE), jax.random.normal(y_key, SHAPE)
    if "cross_entropy" in name:
        return z, jnp.where(MASK, jax.random.randint(y_key, SHAPE[:-1], 0, 4), -1)
    if "poisson" in name:
        y = jnp.floor(jnp.exp(y))
    if "focal" in name:
        y = jax.random.uniform(y_key, SHAPE).at[0].set(1.0).at[1, 0].set(0.0)
    return z, (y, MASK) if "masked" in name else y


@pytest.mark.parametrize("name", CHECKED)
def test_backward_root_hessian_and_sample_are_right(name, key):
    jn.testing.check_loss(CHECKED[name], *example(name, key))


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        (
            "cross_entropy, summed",
            losses.cross_entropy(label_smoothing=0.2, class_weights=[0.5, 1.0, 2.0, 0.0], ignore=-1),
        ),
        ("cross_entropy, mean", losses.cross_entropy(label_smoothing=0.2, ignore=-1, over_positions="mean")),
        ("huber_loss", losses.huber_loss(delta=0.7)),
        ("poisson_nll_loss", losses.poisson_nll_loss),
        ("sigmoid_focal_loss", losses.sigmoid_focal_loss(alpha=0.25, gamma=1.5)),
    ],
)
def test_losses_and_derivatives_are_pytorchs(name, loss, x64):
    z, y, expected, dz = (jnp.asarray(TORCH[name][part]) for part in ("z", "y", "losses", "dz"))
    np.testing.assert_allclose(loss.forward(z, y), expected, rtol=1e-10)
    np.testing.assert_allclose(loss.backward(z, y), dz, rtol=1e-10, atol=1e-14)


def test_without_options_it_is_the_cross_entropy_of_labels(x64, key):
    z, y = 3 * jax.random.normal(key, SHAPE), jnp.array([[0, 1], [3, 2], [2, 2]])
    ours, theirs = losses.cross_entropy(), losses.softmax_cross_entropy_with_integer_labels
    for part in ("forward", "backward", "root_hessian"):
        np.testing.assert_allclose(getattr(ours, part)(z, y), getattr(theirs, part)(z, y), rtol=1e-13, atol=1e-16)
    np.testing.assert_array_equal(ours.sample(key, z), theirs.sample(key, z))


def test_labels_that_are_ignored_and_masked_ones_are_the_same_to_a_loss(x64, key):
    z, y = example("cross_entropy", key)
    ignoring = losses.cross_entropy(ignore=-1, over_positions="mean")
    masked = losses.masked(losses.softmax_cross_entropy_with_integer_labels, over_positions="mean")
    for part in ("forward", "backward", "root_hessian"):
        actual = getattr(masked, part)(z, (y, MASK))
        np.testing.assert_allclose(actual, getattr(ignoring, part)(z, y), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_signals_of_samples_have_the_hessians_covariance(name, x64, key):
    """By `curvature.sampled`, which keeps which positions count."""
    loss, (z, y) = LIKELIHOODS[name], example(name, key)

    @jax.jit
    def outer_products(key):
        S = jn.curvature.sampled(loss, key, 20_000)(z, y) * 20_000**0.5
        root = loss.root_hessian(z, y)
        outer = jnp.einsum("vmti,vmtj->vmtij", S, S)
        return outer.mean(0), outer.std(0) / 20_000**0.5, jnp.einsum("vmti,vmtj->mtij", root, root)

    mean, standard_error, hessian = outer_products(key)
    # Huber's second derivative depends on y: its mean is what is within delta.
    if "huber" in name:
        within = jax.scipy.special.erf(0.7 / 2**0.5) * (2 * jnp.pi) ** 0.5
        hessian = jnp.eye(4) * within / (within + 2 * jnp.exp(-(0.7**2) / 2) / 0.7)
        hessian = hessian[None, None] * (MASK[..., None, None].astype(float) if "masked" in name else 1)
    assert (jnp.abs(mean - hessian) <= 5 * standard_error + 1e-12).all()


@pytest.mark.parametrize("loss", [SMOOTH, WEIGHTED, losses.masked(losses.softmax_cross_entropy_with_integer_labels)])
def test_what_does_not_count_may_be_anything_and_gives_nothing(loss, x64):
    z = jnp.array([[[jnp.nan, 1.0, 0.0, 0.0], [1.0, 2.0, 0.5, 0.0]], [[jnp.inf] * 4, [-jnp.inf] * 4]])
    y, alone = jnp.array([[-1, 1], [-1, -1]]), (z[:1, 1:], jnp.array([[1]]))
    if loss not in (SMOOTH, WEIGHTED):
        y, alone = (y, y >= 0), (alone[0], (alone[1], jnp.array([[True]])))
    everything = jax.jit(lambda z, y: (loss.forward(z, y), loss.backward(z, y), loss.root_hessian(z, y)))
    (values, dz, S), expected = everything(z, y), everything(*alone)
    np.testing.assert_allclose(values, [expected[0][0], 0], rtol=1e-14)
    np.testing.assert_allclose(dz[0, 1], expected[1][0, 0], rtol=1e-14)
    for nothing in (dz[0, 0], dz[1], S[:, 0, 0], S[:, 1]):
        np.testing.assert_array_equal(nothing, jnp.zeros_like(nothing))
    assert jnp.isfinite(S).all()


def test_padding_changes_neither_the_gradient_nor_the_curvature(x64, key):
    """Of a network whose positions do not hear of one another, and an error which is a sum or a mean of theirs."""
    net = jn.mlp((3, 5, 4), jn.tanh)
    params, x = net.init(key), jax.random.normal(key, (4, 2, 3))
    y = jnp.array([[0, 1], [3, 2], [2, 2], [1, 0]])
    longer = jnp.concatenate([x, jnp.full((4, 3, 3), 1e3)], axis=1), jnp.pad(y, ((0, 0), (0, 3)), constant_values=-7)

    @jax.jit
    def readings(x, y):
        found = []
        for how in ("sum", "mean"):
            loss = losses.cross_entropy(ignore=-7, over_positions=how)
            found += [jn.value_and_grad(net, loss)(params, x, y), jn.curvature.ggn_diagonal(net, loss, params, x, y)]
        return *found, jn.curvature.hessian_diagonal(net, loss, params, x, y)

    for ours, theirs in zip(*(jax.tree.leaves(readings(*batch)) for batch in ((x, y), longer)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)


def test_tails_are_the_limits():
    z = jnp.array([[1e4], [-1e4], [jnp.inf], [-jnp.inf]], jnp.float32)
    ones, zeros = jnp.ones_like(z), jnp.zeros_like(z)
    for gamma in (0.5, 2.0):
        focal = losses.sigmoid_focal_loss(gamma=gamma)
        np.testing.assert_array_equal(focal.forward(z, ones), [0, 1e4, 0, np.inf])
        np.testing.assert_array_equal(focal.backward(z, ones)[:, 0], [0, -1, 0, -1])
        np.testing.assert_array_equal(focal.backward(z, zeros)[:, 0], [1, 0, 1, 0])
    # q^(1/4) ce.
    small = losses.sigmoid_focal_loss(gamma=0.25).forward(jnp.array([[60.0]]), ones[:1])
    np.testing.assert_allclose(small, [np.exp(-75.0)], rtol=1e-5)
    np.testing.assert_array_equal(losses.huber_loss(delta=2.0).forward(z, zeros), [2e4 - 2, 2e4 - 2, np.inf, np.inf])
    np.testing.assert_array_equal(losses.huber_loss(delta=2.0).backward(z, zeros)[:, 0], [2, -2, 2, -2])
    poisson = losses.poisson_nll_loss
    np.testing.assert_array_equal(poisson.forward(z[3:], jnp.array([[0.0]])), [0])
    np.testing.assert_array_equal(poisson.backward(z[3:], jnp.array([[0.0]])), [[0]])
    np.testing.assert_array_equal(poisson.forward(z[3:], jnp.array([[1.0]])), [np.inf])


def test_classes_that_are_ruled_out_cost_nothing_unless_they_are_smoothed_over():
    z, y = jnp.array([[0.0, -jnp.inf, 1.0]]), jnp.array([2])
    for loss in (losses.cross_entropy(), losses.cross_entropy(label_smoothing=0.1, class_weights=[1.0, 0.0, 1.0])):
        assert jnp.isfinite(loss.forward(z, y)).all()
        np.testing.assert_array_equal(loss.backward(z, y)[0, 1], 0)
    smoothed = losses.cross_entropy(label_smoothing=0.1)
    np.testing.assert_array_equal(smoothed.forward(z, y), [np.inf])
    assert jnp.isfinite(smoothed.backward(z, y)).all()


@pytest.mark.parametrize("name", ["cross_entropy, every option", "masked huber_loss"])
def test_over_devices_it_is_what_it_is_on_one(name, x64, key):
    loss, (z, y) = CHECKED[name], example(name, key)
    z, y = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1]]), (z, y))

    def everything(z, y):
        return loss.forward(z, y), loss.backward(z, y), loss.root_hessian(z, y)

    expected = jax.jit(everything)(z, y)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        rows, whole = (NamedSharding(mesh, PartitionSpec("data", *of)) for of in ((), (None, "model")))
        y = jax.tree.map(lambda leaf: jax.device_put(leaf, whole if leaf.ndim == 3 else rows), y)
        actual = jax.jit(everything)(jax.device_put(z, whole), y)
    for ours, theirs in zip(jax.device_get(actual), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    assert actual[1].sharding.is_equivalent_to(whole, 3)


def test_they_print_as_they_were_made():
    assert repr(losses.cross_entropy()) == "cross_entropy()"
    assert repr(losses.cross_entropy(label_smoothing=0.1, ignore=np.int64(-1))) == (
        "cross_entropy(label_smoothing=0.1, ignore=-1)"
    )
    assert repr(losses.masked(losses.huber_loss(delta=2.0), over_positions="mean")) == (
        "masked(huber_loss(delta=2.0), over_positions='mean')"
    )
    assert repr(losses.sigmoid_focal_loss(alpha=0.5)) == "sigmoid_focal_loss(alpha=0.5)"


def test_a_loss_with_options_is_drawn_under_its_name(key):
    net = jn.dense(3, 4)
    assert "cross entropy" in jn.draw(net, net.init(key), jnp.ones((2, 3)), loss=SMOOTH)


NO_SAMPLE = "use what needs none, as curvature.exact or curvature.empirical do"
OF_OPTIONS = (
    "cross_entropy: has no sample, since with label_smoothing, class_weights or a mean it is no log-likelihood; "
    + NO_SAMPLE
)
FOCAL = losses.sigmoid_focal_loss()
KEY, Z = jax.random.key(0), np.ones((3, 2), np.float32)


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.cross_entropy(label_smoothing=0.1).sample(KEY, Z), OF_OPTIONS),
        (lambda: losses.cross_entropy(class_weights=[1, 2]).sample(KEY, Z), OF_OPTIONS),
        (lambda: losses.cross_entropy(over_positions="mean").sample(KEY, Z), OF_OPTIONS),
        (lambda: losses.masked(losses.cross_entropy(label_smoothing=0.1)).sample(KEY, Z), OF_OPTIONS),
        (
            lambda: losses.masked(losses.half_squared_error, over_positions="mean").sample(KEY, Z),
            f"masked: has no sample, since a mean over positions is no log-likelihood; {NO_SAMPLE}",
        ),
        (
            lambda: jn.curvature.sampled(losses.masked(FOCAL), KEY)(Z, (Z, Z[:, 0] > 0)),
            f"sigmoid_focal_loss: has no sample, since it is no log-likelihood; {NO_SAMPLE}",
        ),
        (
            lambda: jn.curvature.exact(losses.masked(FOCAL))(Z, (Z, Z[:, 0] > 0)),
            "sigmoid_focal_loss: has no root_hessian, since its second derivative is negative in places; "
            "use curvature.empirical",
        ),
        (
            lambda: losses.cross_entropy(label_smoothing=1.5),
            "cross_entropy: expected label_smoothing from 0 to 1, got 1.5",
        ),
        (
            lambda: losses.cross_entropy(class_weights=[1, -1]),
            "cross_entropy: expected class_weights (o,), finite and at least 0, got array([ 1., -1.])",
        ),
        (
            lambda: losses.cross_entropy(class_weights=[[1, 2]]),
            "cross_entropy: expected class_weights (o,), finite and at least 0, got shape (1, 2)",
        ),
        (lambda: losses.cross_entropy(ignore=0.5), "cross_entropy: expected ignore to be an integer, got 0.5"),
        (
            lambda: losses.cross_entropy(over_positions="max"),
            "cross_entropy: expected over_positions to be 'sum' or 'mean', got 'max'",
        ),
        (
            lambda: losses.cross_entropy(class_weights=[1, 2, 3]).forward(Z, np.array([0, 1, 1])),
            "cross_entropy: expected class_weights of shape (2,), one for each class, got (3,)",
        ),
        (
            lambda: losses.cross_entropy(ignore=-1).forward(Z, np.array([0, 1, 1], np.uint8)),
            "cross_entropy: expected labels of a type that holds ignore=-1, got uint8",
        ),
        (
            lambda: losses.cross_entropy(ignore=-1).backward(Z, np.array([0, -1, 2])),
            "cross_entropy: expected labels from 0 to 1, or -1, got 2 at y[2]",
        ),
        (
            lambda: losses.masked("loss"),
            "masked: expected loss to be a Loss, such as jaxnet.losses.half_squared_error, got 'loss'",
        ),
        (
            lambda: losses.masked(losses.half_squared_error).forward(Z, Z),
            "masked: expected targets (y, mask), got a ndarray",
        ),
        (
            lambda: losses.masked(losses.half_squared_error).forward(Z, (Z, Z[:, 0])),
            "masked: expected a mask of booleans of shape (3,), the outputs' without the last axis, "
            "got float32 of shape (3,)",
        ),
        (
            lambda: losses.masked(losses.half_squared_error).forward(Z, (Z[:1], Z[:, 0] > 0)),
            "masked: expected y of shape (3,) and more, got (1, 2)",
        ),
        (lambda: losses.huber_loss(delta=0), "huber_loss: expected delta to be a positive number, got 0"),
        (
            lambda: losses.sigmoid_focal_loss(alpha=2),
            "sigmoid_focal_loss: expected alpha to be None or a number from 0 to 1, got 2",
        ),
        (
            lambda: losses.sigmoid_focal_loss(gamma=-1),
            "sigmoid_focal_loss: expected gamma to be a number of at least 0, got -1",
        ),
        (
            lambda: losses.poisson_nll_loss.forward(Z, -Z),
            "poisson_nll_loss: expected values of y of at least 0, and finite, got -1.0 at y[0, 0]",
        ),
    ],
)
def test_what_is_lacking_and_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def test_a_label_out_of_range_shows_under_jit():
    values = jax.jit(SMOOTH.forward)(jnp.ones((4, 2)), jnp.array([-1, -2, 1, 2]))
    np.testing.assert_array_equal(np.isnan(values), [False, True, False, True])


def test_a_loss_that_lacks_a_root_and_samples_is_still_asked_for_its_derivative(key):
    wrong = FOCAL._replace(backward=lambda z, y: 1.01 * FOCAL.backward(z, y))
    with pytest.raises(AssertionError, match=r"^check_loss: sigmoid_focal_loss"):
        jn.testing.check_loss(wrong, *example("sigmoid_focal_loss", key))
