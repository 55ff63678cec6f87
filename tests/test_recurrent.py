"""Cells of one's own over time: the same numbers as of layers that were written for it, and as autodiff's."""

from functools import partial

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import NETWORKS, OF_IMAGES, SQUEEZE, STATE_IS_OUTPUT, at_first, cell, inputs_of
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from own_layers import masked

import jaxnet as jn
from jaxnet import curvature, feedback, per_example
from jaxnet.gradient import totalled
from jaxnet.notes import in_order, with_notes

messages = pytest.mark.usefixtures("without_shape_annotations")
LOSS = jn.losses.half_squared_error
LENGTHS = np.array([0, 4, 2], np.int32)


def assert_close(actual, expected, tolerance=1e-12):
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-15 + tolerance * np.abs(theirs).max(initial=0))


@pytest.mark.parametrize("name", ["elman", "repeated"])
def test_backward_equals_autodiff(name, key):
    shorts = ("float32", "bfloat16") if name == "elman" else ()
    jn.testing.check_layer(NETWORKS[name][0], inputs_of(name, key), key, short_types=shorts)


def test_through_two_cells_with_lengths_backward_equals_autodiff(x64, key):
    start = jn.chain(jn.initial_state(6, learnt=True), jn.reshape((3, 2)))
    last = jn.recurrent(jn.chain(jn.concatenate, jn.conv(4, 2, (1,)), STATE_IS_OUTPUT), jn.take(0), last=True)
    net = jn.chain(jn.recurrent(OF_IMAGES, start), last)
    params, x, dy = net.init(key), jax.random.normal(key, (3, 4, 3, 1)), jax.random.normal(key, (3, 3, 2))
    lengths = jnp.asarray(LENGTHS)

    @jax.jit
    def both(params, x):
        y, cache = net.forward(params, (x, lengths))
        dparams, (dx, _) = net.backward(params, cache, dy)
        of_autodiff, pullback = jax.vjp(lambda params, x: net.apply(params, (x, lengths)), params, x)
        return (y, per_example.total(dparams), dx), (of_autodiff, *pullback(dy))

    assert_close(*both(params, x))


@pytest.mark.parametrize("last", [False, True], ids=["all times", "last"])
def test_a_cell_of_dense_and_tanh_is_the_rnn(last, x64, key):
    """With lengths, and with its Kronecker factors, among which those of x and of the state are one."""
    own, known = jn.recurrent(cell(), jn.initial_state(3), last=last), jn.rnn(2, 3, last=last)
    W, U, b = known.init(key)
    of_own, of_known = (
        (((), jn.Dense(jnp.concatenate([W, U], axis=1), b + 0.1), (), ((), ())), ()),
        jn.RNN(W, U, b + 0.1),
    )
    x, dy = jax.random.normal(key, (3, 4, 2)), jax.random.normal(key, (3, 3) if last else (3, 4, 3))
    padded = jnp.where(np.arange(4)[None, :, None] < LENGTHS[:, None, None], x, jnp.nan)

    @partial(jax.jit, static_argnums=0)
    def everything(net, params, lengths):
        y, cache = net.forward(params, (padded, lengths))
        dparams, (dx, _) = net.backward(params, cache, dy if last else (dy, None))
        y = y if last else y[0]
        return y, dx, per_example.each(dparams), curvature.kflr(net, LOSS, params, x, y)

    y, dx, each, factors = everything(own, of_own, LENGTHS)
    of_rnn = everything(known, of_known, LENGTHS)
    assert_close((y, dx), of_rnn[:2])
    (_, dense, *_), _ = each
    assert_close((dense.W[..., :2], dense.W[..., 2:], dense.b), tuple(of_rnn[2]))
    (_, dense, *_), _ = factors
    among_outputs, among_inputs = dense.W
    assert_close((among_outputs, among_inputs[:2, :2], *dense.b), (*of_rnn[3].W, *of_rnn[3].b))
    assert_close((among_outputs, among_inputs[2:, 2:]), of_rnn[3].U)


def test_what_a_cell_draws_it_draws_once_for_all_times(x64, key):
    net = jn.recurrent(jn.chain(at_first(masked(0.5)), cell()), jn.initial_state(3))
    bound, x, y = jn.bind(net, key), drawn.normal(3, 4, 2), jnp.ones((3, 4, 3))

    @jax.jit
    def mask_and_gradients(params):
        _, (_, (mask, _), *_) = bound.forward(params, x)
        expected = jax.value_and_grad(lambda params: LOSS.forward(bound.apply(params, x), y).mean())(params)
        return mask, jn.value_and_grad(bound, LOSS)(params, x, y), expected

    mask, actual, expected = jax.device_get(mask_and_gradients(drawn.parameters(net)))
    assert mask.shape == (4, 3, 2)
    np.testing.assert_array_equal(mask, np.broadcast_to(mask[:1], mask.shape))
    assert len(np.unique(mask)) == 2
    assert_close(actual, expected)


def test_what_reads_each_leaf_where_it_is_reads_the_sum_over_times(x64, key):
    """As `value_and_grad` does, in a scan of rounds that each draw anew."""
    rounds = jn.recurrent(jn.chain(at_first(masked(0.5)), cell(inputs=3)), jn.initial_state(3))
    net = jn.bind(jn.repeat(rounds, 2), key)
    x = drawn.normal(3, 4, 3)

    @jax.jit
    def in_every_way(params):
        z, cache = net.forward(params, x)
        dparams, _ = jn.at_leaves(totalled, net).backward(params, cache, z - x)
        expected = jax.grad(lambda params: LOSS.forward(net.apply(params, x), x).sum())(params)
        return jn.value_and_grad(net, LOSS)(params, x, x)[1], dparams, expected

    gradient, dparams, expected = jax.device_get(in_every_way(drawn.parameters(net)))
    assert_close(gradient, jax.tree.map(lambda leaf: leaf / 3, expected))
    assert_close(dparams, expected)


def test_mixed_precision_goes_through(key):
    net, x = NETWORKS["elman"][0], inputs_of("elman", key)
    params, y = net.init(key), jnp.ones((3, 4, 3))
    (_, actual), (_, expected) = (
        jax.jit(jn.value_and_grad(of_type, LOSS))(params, x, y) for of_type in (jn.mixed_precision(net), net)
    )
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == jnp.float32
        assert 0 < float(jnp.abs(ours - theirs).max()) < 0.03 * float(jnp.abs(theirs).max())


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_over_a_mesh_it_is_what_one_device_has(kind, x64, key):
    """The batch over one axis, neurons over the other."""
    between = jn.chain(jn.concatenate, jn.dense(6, 4), jn.tanh, STATE_IS_OUTPUT)
    net = jn.chain(
        jn.recurrent(between, jn.initial_state(4, learnt=True)),
        jn.recurrent(jn.chain(jn.concatenate, jn.dense(8, 4), STATE_IS_OUTPUT), jn.initial_state(4), last=True),
    )
    lengths = np.arange(8, dtype=np.int32) % 4
    params, x, y = jax.device_get((net.init(key), jax.random.normal(key, (8, 3, 2)), jnp.ones((8, 4))))

    def everything(params, x, y):
        z, cache = net.forward(params, x)
        dparams, (dx, _) = net.backward(params, cache, LOSS.backward(z, y))
        diagonal = curvature.ggn_diagonal(net, LOSS, params, x, y)
        return per_example.mean(dparams), dx, per_example.clipped_mean(dparams, 0.1), diagonal

    expected = jax.device_get(jax.jit(everything)(params, (x, lengths), y))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        rows, of_weights = (NamedSharding(mesh, PartitionSpec(axis)) for axis in mesh.axis_names)
        spread = jax.device_put(((x, lengths), y), rows)
        actual = jax.jit(everything)(jax.device_put(params, of_weights), *spread)
    assert_close(jax.device_get(actual), expected)


def test_exported_for_every_platform_it_takes_any_number_of_examples(key):
    net = jn.recurrent(cell(), jn.initial_state(3, learnt=True), last=True)
    leaves, structure = jax.tree.flatten(net.init(key))

    def clipped(leaves, x, lengths, y):
        read = per_example.clipped(0.1)
        value, grads = jn.value_and_grad(net, LOSS, read=read)(structure.unflatten(leaves), (x, lengths), y)
        return value, jax.tree.leaves(grads)

    (m,) = export.symbolic_shape("m")
    shapes = ((4, 2), np.float32), ((), np.int32), ((3,), np.float32)
    like = [jax.ShapeDtypeStruct((m, *shape), dtype) for shape, dtype in shapes]
    exported = export.export(jax.jit(clipped), platforms=["cpu", "cuda", "tpu"])(leaves, *like)
    given = jax.random.normal(key, (3, 4, 2)), jnp.asarray(LENGTHS), jnp.ones((3, 3))
    actual = export.deserialize(exported.serialize()).call(leaves, *given)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(jax.jit(clipped)(leaves, *given)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_memory_is_within_autodiffs_and_operations_within_a_hundredth(monkeypatch):
    """XLA counts the body of a scan once: operations are those of a program without."""
    between = jn.chain(jn.concatenate, jn.dense(128, 64), jn.tanh, STATE_IS_OUTPUT)
    net = jn.recurrent(between, jn.initial_state(64))
    params = jax.eval_shape(net.init, jax.random.key(0))

    def mean_loss(params, x, y):
        return LOSS.forward(net.apply(params, x), y).mean()

    def both(times):
        x = jax.ShapeDtypeStruct((16, times, 64), jnp.float32)
        for gradient in (jn.value_and_grad(net, LOSS), jax.value_and_grad(mean_loss)):
            yield jax.jit(gradient).lower(params, x, x).compile()

    ours, theirs = (program.memory_analysis().temp_size_in_bytes for program in both(32))
    # Later versions of XLA let both scans begin with the same zeros, and keep these until the second one begins.
    zeros = 0 if jax.__version__.startswith("0.10.") else 4 * 16 * 32 * 64
    assert ours <= theirs + zeros
    scan = jax.lax.scan
    monkeypatch.setattr(jax.lax, "scan", lambda *a, **options: scan(*a, **options, unroll=True))
    ours, theirs = (program.cost_analysis()["flops"] for program in both(4))
    assert ours <= 1.01 * theirs


@messages
@pytest.mark.parametrize(
    ("quantity", "instead"), [("hessian_diagonal", "ggn_diagonal"), ("kfra", "kflr"), ("direct", "feedback.alignment")]
)
def test_signals_without_times_are_refused_by_name(quantity, instead, key):
    net = jn.chain(jn.reshape((2, 2)), jn.recurrent(cell(), jn.initial_state(3), last=True))
    params, x, y = net.init(key), jnp.ones((3, 4)), jnp.ones((3, 3))

    def direct(net, loss, params, x, y):
        weights = (), (((), (), (), ((), ())), ())
        return jn.value_and_grad(net, loss, backward=feedback.direct(net, weights))(params, x, y)

    room, ask = ("feedback", direct) if quantity == "direct" else ("curvature", getattr(curvature, quantity, None))
    with pytest.raises(ValueError) as error:
        ask(net, LOSS, params, x, y)
    # KFRA has no signal for the tuple of a cell, whatever the time.
    kfra = "layers of one array, got concatenate"
    expected = kfra if quantity == "kfra" else "layers whose signals need not be taken apart by time, got recurrent"
    assert str(error.value) == f"{room}.{quantity}: expected {expected}; use {instead}"


def test_what_layers_of_a_cell_note_they_note_at_each_time_with_the_parameters_of_all(key):
    net = jn.chain(
        jn.repeat(jn.recurrent(cell(jn.repeat(SQUEEZE, 2), inputs=3), jn.initial_state(3)), 2), jn.dense(3, 1)
    )
    params, x = net.init(key), jax.random.normal(key, (3, 4, 3))
    noting = with_notes(net)

    def note_of(params, x):
        y, cache = noting.forward(params, x)
        return noting.backward(params, cache, y)[0]

    noted = list(in_order(net, jax.jit(note_of)(params, x), params))
    within = [one for one in noted if one.place.layer.name == "dense" and one.rounds[2:]]
    assert [one.rounds for one in within[:2]] == [
        (("repeat", 1), ("recurrent", 1), ("repeat", number)) for number in (1, 2)
    ]
    assert len(within) == 2 * 4 * 2
    assert {one.trees[0].W.shape for one in within} == {(3, 3)}
    table = str(jn.summary(net, params, x)).splitlines()
    assert any("recurrent, 4 times" in line for line in table)


def test_no_time_and_no_example_are_enough(key):
    for shape in ((0, 4, 2), (3, 0, 2)):
        for last in (False, True):
            net = jn.recurrent(cell(), jn.initial_state(3, learnt=True), last=last)

            def everything(params, x, net=net):
                y, cache = net.forward(params, x)
                dparams, dx = net.backward(params, cache, jnp.ones_like(y))
                return y, per_example.total(dparams, per_example.norms(dparams)), dx

            params = jax.eval_shape(net.init, key)
            y, total, dx = jax.eval_shape(everything, params, jax.ShapeDtypeStruct(shape, jnp.float32))
            assert (y.shape, dx.shape) == ((shape[0], 3) if last else (*shape[:2], 3), shape)
            assert total == params


@messages
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (
            lambda x: jn.recurrent(jn.dense, jn.initial_state(3)),
            "recurrent: expected cell to be a Layer, such as jaxnet.initial_state(4), got the function dense, which "
            "makes one: call it, as in dense(inputs, outputs)",
        ),
        (
            lambda x: jn.recurrent(cell(), 3),
            "recurrent: expected start to be a Layer, such as jaxnet.initial_state(4), got 3",
        ),
        (
            lambda x: jn.recurrent(jn.concatenate, jn.initial_state(3)).forward(((), ()), x),
            "recurrent: expected concatenate to give a tuple of y_t and a state, got (3, 5) float32",
        ),
        (
            lambda x: jn.recurrent(jn.chain(jn.concatenate, STATE_IS_OUTPUT), jn.initial_state(3)).forward(
                (((), ((), ())), ()), x
            ),
            "recurrent: expected chain to keep the state (3, 3) float32, got (3, 5) float32",
        ),
        (
            lambda x: jn.recurrent(cell(), jn.initial_state(3)).forward((), x),
            "recurrent: expected the pair of parameters (cell's, start's), got 0",
        ),
        (
            lambda x: jn.initial_state(3, learnt=True).forward((), x),
            "initial_state(3, learnt=True): expected parameters InitialState(s (3,)), got a tuple",
        ),
        (lambda x: jn.initial_state(0), "initial_state: expected size to be a positive integer, got 0"),
        (
            lambda x: jn.concatenate.forward((), (x, x[:, 0])),
            "concatenate: expected a tuple of arrays of one shape but for their features, the last axis, got "
            "(3, 4, 2), (3, 2)",
        ),
    ],
)
def test_misuse_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse(jnp.ones((3, 4, 2)))
    assert str(error.value) == message
