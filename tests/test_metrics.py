"""Several readings of one backward pass, beside the gradient and beside the loss of training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_layers import tied

import jaxnet as jn
from jaxnet import per_example

NET = jn.chain(jn.dense(3, 4), jn.tanh, jn.repeat(jn.residual(tied(4)), 2), jn.dense(4, 2))
LOSS, OPTIMIZER = jn.losses.softmax_cross_entropy, optax.sgd(0.1, momentum=0.9)
# A number, and a tree of arrays; both take weights.
METRICS = {"noise scale": per_example.noise_scale, "variance": per_example.variance}
BY_NAME = tuple(METRICS.items())
MAKES = {
    "make_step": jn.make_step,
    "make_epoch": partial(jn.make_epoch, batch_size=4),
    "make_steps": jn.make_steps,
}
everywhere = pytest.mark.parametrize("where", MAKES)


@pytest.fixture
def problem(x64, key):
    keys = jax.random.split(key, 3)
    x, labels = jax.random.normal(keys[0], (12, 3)), jax.random.randint(keys[1], (12,), 0, 2)
    return NET.init(keys[2]), x, jax.nn.one_hot(labels, 2)


@partial(jax.jit, static_argnums=3)
def read_apart(params, x, y, readings=BY_NAME):
    """By a pass of their own, of a batch in which all examples count."""
    z, cache = NET.forward(params, x)
    dparams, _ = NET.backward(params, cache, LOSS.backward(z, y))
    return {name: reading(dparams) for name, reading in readings}


def assert_trees_close(actual, expected, rtol=1e-12):
    """Relative to the largest number of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.isfinite(theirs).all()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * np.abs(theirs).max())


def message_of(call, *arguments):
    with pytest.raises(ValueError) as error:
        call(*arguments)
    return str(error.value).splitlines()[0]


@pytest.mark.parametrize("read", [None, per_example.clipped(0.1)], ids=["mean", "clipped"])
@pytest.mark.parametrize("counting", [None, 9], ids=["all count", "9 of 12 count"])
def test_metrics_are_what_the_readings_say_of_the_examples_that_count_and_change_no_gradient(problem, read, counting):
    params, x, y = problem
    weights = None if counting is None else jnp.where(jnp.arange(12) < counting, 1 / counting, 0)
    made = partial(jn.value_and_grad, NET, LOSS, read=read)
    (value, values), grads = jax.jit(made(metrics=METRICS))(params, x, y, weights)
    assert_trees_close(values, read_apart(params, x[:counting], y[:counting]))
    assert_trees_close((value, grads), jax.jit(made())(params, x, y, weights))


def test_metrics_are_read_of_the_signal_that_another_backward_sent(problem):
    params, x, y = problem
    backward = jn.feedback.alignment(NET, NET.init(jax.random.key(3)))
    made = jn.value_and_grad(NET, LOSS, backward=backward, metrics={"mean": per_example.mean})
    (_, values), grads = jax.jit(made)(params, x, y)
    np.testing.assert_array_equal(values["mean"][0].W, grads[0].W)
    assert np.abs(grads[0].W - read_apart(params, x, y, (("mean", per_example.mean),))["mean"][0].W).max() > 1e-3


def loop(state, batches, read):
    """What training does, batch after batch as small as it is: the loss and the metrics of each, and the state."""
    seen = []
    step = jn.make_step(NET, LOSS, OPTIMIZER, value_and_grad=partial(jn.value_and_grad, read=read))
    for x, y in batches:
        values = read_apart(state.params, x, y)
        state, metrics = step(state, x, y)
        seen.append(metrics | values)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)


@pytest.mark.parametrize("read", [None, per_example.clipped(0.1)], ids=["mean", "clipped"])
def test_an_epochs_metrics_are_those_of_a_loop_with_a_smaller_last_batch(problem, read):
    (params, x, y), batch_size = problem, 5
    fresh = lambda: jn.TrainState.create(params, OPTIMIZER)  # noqa: E731
    made = partial(jn.value_and_grad, read=read)
    epoch = jn.make_epoch(NET, LOSS, OPTIMIZER, batch_size, value_and_grad=made, metrics=METRICS)
    after, metrics = epoch(fresh(), x, y)
    order = np.asarray(jn.training.epoch_order(fresh().key, 0, 12, 12))[0]
    rows = [order[start : start + batch_size] for start in range(0, 12, batch_size)]
    expected, seen = loop(fresh(), [(x[of_batch], y[of_batch]) for of_batch in rows], read)
    assert_trees_close(after.params, expected.params)
    assert_trees_close({name: metrics[name] for name in METRICS}, {name: seen[name] for name in METRICS}, 1e-10)
    mean = np.average(seen["loss"], weights=[len(of_batch) for of_batch in rows])
    np.testing.assert_allclose(metrics["loss"], mean, rtol=1e-12)


def test_the_metrics_of_many_steps_are_stacked_and_those_of_one_are_not(problem):
    params, x, y = problem
    fresh = lambda: jn.TrainState.create(params, OPTIMIZER)  # noqa: E731
    batches = x.reshape(3, 4, 3), y.reshape(3, 4, 2)
    expected, seen = loop(fresh(), zip(*batches, strict=True), None)
    steps = jn.make_steps(NET, LOSS, OPTIMIZER, metrics=METRICS)
    for weights in ((), (jnp.full((3, 4), 0.25),)):
        after, metrics = steps(fresh(), *batches, *weights)
        assert_trees_close((after.params, metrics), (expected.params, seen), 1e-10)
    # A reading that takes no weights may say something of each example.
    state, step = fresh(), jn.make_step(NET, LOSS, OPTIMIZER, metrics={"norms": per_example.norms})
    norms = read_apart(params, batches[0][0], batches[1][0], (("norms", per_example.norms),))["norms"]
    state, metrics = step(state, batches[0][0], batches[1][0])
    assert metrics.keys() == {"loss", "norms"}
    np.testing.assert_allclose(metrics["norms"], norms, rtol=1e-12)
    np.testing.assert_allclose(metrics["loss"], seen["loss"][0], rtol=1e-12)


def test_metrics_cost_no_second_pass(key):
    """Norms need no product of matrices, and the mean is the gradient."""
    net = jn.mlp((30, 40, 20, 2), jn.tanh)
    state = jax.eval_shape(lambda: jn.TrainState.create(net.init(key), OPTIMIZER))
    x, y = jnp.ones((128, 30)), jnp.ones((128, 2))

    def step(metrics=None):
        return jn.make_step(net, LOSS, OPTIMIZER, metrics=metrics).lower(state, x, y)

    products = [text.count("dot_general") for text in (step().as_text(), step({"norms": per_example.norms}).as_text())]
    assert products == [8, 8]
    alone, mean, noise = (
        step(metrics).compile().cost_analysis()["flops"]
        for metrics in (None, {"mean": per_example.mean}, {"noise scale": per_example.noise_scale})
    )
    assert mean < 1.01 * alone
    # A second forward pass would make it 1.33.
    assert noise < 1.2 * alone


@pytest.mark.usefixtures("without_shape_annotations")
@everywhere
def test_metrics_that_are_none_are_refused_when_the_step_is_made(where):
    def autodiff(net, loss):
        return jax.value_and_grad(lambda params, x, y, weights=None: loss.forward(net.apply(params, x), y).mean())

    make = partial(MAKES[where], NET, LOSS, OPTIMIZER)
    same = f'{where}: expected metrics to be readings by name, such as {{"norms": jaxnet.per_example.norms}}, got '
    norms = per_example.norms
    assert message_of(lambda: make(metrics=norms)) == same + "the function norms"
    assert message_of(lambda: make(metrics="norms")) == same + "'norms'"
    assert message_of(lambda: make(metrics={1: norms})) == same + "the name 1"
    assert message_of(lambda: make(metrics={"norms": 3.0})) == same + "3.0 for 'norms'"
    expected = f"{where}: expected metrics of names other than 'loss', which is that of J"
    assert message_of(lambda: make(metrics={"loss": norms})) == expected
    assert message_of(lambda: make(value_and_grad=autodiff, metrics={"norms": norms})) == (
        f"{where}: expected a value_and_grad that takes metrics, as jaxnet.value_and_grad does, "
        "got the function autodiff"
    )
    # Without metrics it need not.
    make(value_and_grad=autodiff)


@pytest.mark.usefixtures("without_shape_annotations")
@everywhere
def test_a_value_and_grad_that_was_made_already_is_refused_when_the_step_is_made(where):
    expected = (
        f"{where}: expected value_and_grad to be a function of (net, loss), such as jaxnet.value_and_grad or a "
        "functools.partial of it, got "
    )
    make = partial(MAKES[where], NET, LOSS, OPTIMIZER)
    made = jn.value_and_grad(NET, LOSS)
    assert message_of(lambda: make(value_and_grad=made)) == f"{expected}the function hand_derived"
    assert message_of(lambda: make(value_and_grad="by hand")) == f"{expected}'by hand'"


@pytest.mark.usefixtures("without_shape_annotations")
def test_value_and_grad_reads_by_one_function_and_names_what_is_none():
    norms = per_example.norms
    assert message_of(lambda: jn.value_and_grad(NET, LOSS, read=(norms, per_example.mean))) == (
        "value_and_grad: expected read to be one reading (dparams, weights) -> grads, such as "
        "jaxnet.per_example.clipped(1.0), got a tuple; further readings of the same pass are metrics"
    )
    for read, shown in {
        norms: "the function norms",
        partial(per_example.clipped_mean, max_norm=1.0): "a partial",
    }.items():
        assert message_of(lambda read=read: jn.value_and_grad(NET, LOSS, read=read)) == (
            "value_and_grad: expected read to be one reading (dparams, weights) -> grads, such as "
            f"jaxnet.per_example.clipped(1.0), got {shown}, which does not take these two; a metric may take dparams "
            "alone"
        )
    assert message_of(lambda: jn.value_and_grad(NET, LOSS, metrics=norms)) == (
        'value_and_grad: expected metrics to be readings by name, such as {"norms": jaxnet.per_example.norms}, '
        "got the function norms"
    )


def test_a_reading_without_weights_is_refused_where_examples_are_weighted(problem):
    """It would take those that only fill up a batch for examples; `gram`'s second argument is another batch."""
    params, x, y = problem
    for name, reading in {"norms": per_example.norms, "gram": per_example.gram}.items():
        expected = (
            f"metrics['{name}']: expected a reading (dparams, weights) -> value, since examples are weighted here, by "
            f"0 where one only fills up its batch, got the function {name}; let it take weights, or batch_size divide "
            "the examples"
        )
        epoch = jn.make_epoch(NET, LOSS, OPTIMIZER, 5, metrics={name: reading})
        assert message_of(epoch, jn.TrainState.create(params, OPTIMIZER), x, y) == expected
        made = jn.value_and_grad(NET, LOSS, metrics={name: reading})
        assert message_of(made, params, x, y, jnp.full(12, 1 / 12)) == expected
    epoch = jn.make_epoch(NET, LOSS, OPTIMIZER, 6, metrics={"norms": per_example.norms})
    _, metrics = epoch(jn.TrainState.create(params, OPTIMIZER), x, y)
    assert metrics["norms"].shape == (2, 6)
