import json
import pickle
from pathlib import Path

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_reading import assert_readings_are_autodiffs
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import curvature, per_example

messages = pytest.mark.usefixtures("without_shape_annotations")
TORCH = json.loads(Path(__file__).with_name("torch_recurrent.json").read_text("utf-8"))
LOSS = jn.losses.half_squared_error
LAYERS = {"rnn": jn.rnn, "gru": jn.gru, "lstm": jn.lstm}
every_layer = pytest.mark.parametrize("name", LAYERS)
LENGTHS = np.array([0, 4, 2], np.int32)
# name: network, and whether x comes with lengths.
NETWORKS = {
    "rnn": (jn.rnn(2, 3), False),
    "gru": (jn.gru(2, 3), False),
    "lstm": (jn.lstm(2, 3), False),
    "rnn, relu, last, no bias": (jn.rnn(2, 3, activation="relu", last=True, bias=False), False),
    "two that go through lengths": (jn.chain(jn.gru(2, 3), jn.lstm(3, 3, last=True, bias=False)), True),
    "inside combinators": (jn.repeat(jn.recompute(jn.residual(jn.chain(jn.gru(2, 3), jn.dense(3, 2)))), 2), False),
}


def assert_close(actual, expected, tolerance=1e-12):
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-15 + tolerance * np.abs(theirs).max(initial=0))


@pytest.mark.parametrize("name", NETWORKS)
def test_backward_equals_autodiff(name, key):
    net, with_lengths = NETWORKS[name]
    x = drawn.normal(3, 4, 2)
    shorts = ("float32", "bfloat16") if name in ("gru", "lstm") else ()
    jn.testing.check_layer(net, (x, jnp.asarray(LENGTHS)) if with_lengths else x, key, short_types=shorts)


@pytest.mark.parametrize("name", TORCH)
def test_forward_and_gradients_are_pytorchs(name, x64):
    torch = {part: np.asarray(value) for part, value in TORCH[name].items()}
    kind = name.split()[0]
    layer = jn.rnn(2, 3, activation="relu") if name == "rnn relu" else LAYERS[kind](2, 3)

    def ours(d):
        """Our parameters of PyTorch's, or our gradients of its."""
        b_x, b_h = torch[f"{d}bias_ih_l0"], torch[f"{d}bias_hh_l0"]
        W, U = torch[f"{d}weight_ih_l0"], torch[f"{d}weight_hh_l0"]
        if kind == "gru":
            both = b_x + b_h if not d else b_x
            return jn.GRU(W, U, np.concatenate([both[:6], b_x[6:]]), b_h[6:])
        return type(jax.eval_shape(layer.init, jax.random.key(0)))(W, U, b_x if d else b_x + b_h)

    @jax.jit
    def there_and_back(params, x, dy):
        y, cache = layer.forward(params, x)
        dparams, dx = layer.backward(params, cache, dy)
        return y, dx, per_example.total(dparams)

    actual = there_and_back(ours(""), torch["x"], torch["dy"])
    assert_close(actual, (torch["y"], torch["dx"], ours("d")), 1e-10)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_every_reading_and_the_ggn_diagonal_are_autodiffs(name, x64):
    net, _ = NETWORKS[name]
    assert_readings_are_autodiffs(net, drawn.normal(4, 3, 2))


@every_layer
def test_an_example_with_a_length_is_the_same_cut_off_there(name, x64):
    """State, gradient and dx; whatever stands behind its end."""
    all_states, last = LAYERS[name](2, 3), LAYERS[name](2, 3, last=True)
    params, x = drawn.parameters(last), drawn.normal(3, 4, 2)
    dy = drawn.normal(3, 3, seed=1)
    padded = jnp.asarray(np.where(np.arange(4)[None, :, None] < LENGTHS[:, None, None], x, np.nan))

    @jax.jit
    def of_padded(x, dy):
        (y, lengths), _ = all_states.forward(params, (x, jnp.asarray(LENGTHS)))
        end, cache = last.forward(params, (x, lengths))
        dparams, (dx, none) = last.backward(params, cache, dy)
        assert none is None
        return y, end, per_example.each(dparams), dx

    @jax.jit
    def of_cut(x, dy):
        """(y, (dparams, dx)) of each example."""
        cut = [x[k : k + 1, :length] for k, length in enumerate(LENGTHS)]
        ys, pullbacks = zip(*(jax.vjp(last.apply, params, one) for one in cut), strict=True)
        return ys, [pullback(dy[k : k + 1]) for k, pullback in enumerate(pullbacks)]

    y, end, each, dx = jax.device_get(of_padded(padded, dy))
    np.testing.assert_array_equal(y[:, -1], end)
    np.testing.assert_array_equal(y[2, 1:], np.broadcast_to(y[2, 1], (3, 3)))
    for k, (of_end, (of_params, of_x)) in enumerate(zip(*jax.device_get(of_cut(x, dy)), strict=True)):
        assert_close((end[k : k + 1], jax.tree.map(lambda g, k=k: g[k], each)), (of_end, of_params))
        assert_close(dx[k], np.pad(of_x[0], ((0, 4 - LENGTHS[k]), (0, 0))))


def test_kronecker_factors_have_times_as_positions_but_none_behind_an_end(x64):
    """Of W: what comes to x_t W^T is what comes to inputs that are added there."""
    x, params, lengths = drawn.normal(3, 4, 2), drawn.parameters(jn.gru(2, 3)), jnp.asarray(LENGTHS)
    alive = np.arange(4) < LENGTHS[:, None]
    wide, last = jn.gru(2 + 9, 3, last=True), jn.gru(2, 3, last=True)

    def with_added(added):
        W = jnp.concatenate([params.W, jnp.eye(9)], axis=1)
        return wide.apply(params._replace(W=W), (jnp.concatenate([x, added], axis=-1), lengths))

    @jax.jit
    def everything(params):
        arguments = last, LOSS, params, (x, lengths), jnp.zeros((3, 3))
        du = jax.jacrev(with_added)(jnp.zeros((3, 4, 9)))
        states = jn.gru(2, 3).apply(params, x)
        return du, states, curvature.kflr(*arguments), curvature.ggn_blocks(*arguments)

    du, states, factors, blocks = everything(params)
    before = np.concatenate([np.zeros((3, 1, 3)), states[:, :-1]], axis=1)
    du = np.reshape(du, (9, 3, 4, 9))
    of_inputs, of_states = (np.einsum("mt,mti,mtj->ij", alive, a, a) / 12 for a in (x, before))
    assert_close(factors.W, (np.einsum("vmto,vmtp->op", du, du) / 3, of_inputs))
    assert_close(factors.U[1], of_states)
    assert_close(factors.b, (blocks.b,))


def test_products_with_the_hessian_are_autodiffs(x64):
    net = jn.chain(jn.gru(2, 3), jn.lstm(3, 2))
    params, x, y = drawn.parameters(net), drawn.normal(3, 3, 2), jnp.ones((3, 3, 2))
    gradient = jax.grad(lambda params: LOSS.forward(net.apply(params, x), y).mean())

    @jax.jit
    def both(params, d):
        by_hand = curvature.hessian_vector_product(net, LOSS, params, x, y, d)
        return by_hand, jax.jvp(gradient, (params,), (d,))[1]

    assert_close(*both(params, drawn.like(params, seed=1)))


@messages
@every_layer
def test_what_its_second_derivative_is_needed_for_is_refused_by_name(name):
    layer = LAYERS[name](2, 3, last=True)
    arguments = LOSS, drawn.parameters(layer), drawn.normal(3, 4, 2), jnp.ones((3, 3))
    with pytest.raises(ValueError) as error:
        curvature.hessian_diagonal(layer, *arguments)
    assert str(error.value) == (
        f"curvature.hessian_diagonal: {name} does not tell its second derivative; "
        "give it one with Layer(init, forward, backward, second), or use ggn_diagonal"
    )


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_over_a_mesh_it_is_what_one_device_has(kind, x64):
    """The batch over one axis, neurons over the other."""
    net = jn.chain(jn.rnn(4, 4), jn.lstm(4, 4), jn.gru(4, 2, last=True))
    lengths = np.arange(8, dtype=np.int32) % 4
    params, x, y = jax.device_get((drawn.parameters(net), drawn.normal(8, 3, 4), np.ones((8, 2))))

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
    if kind == AxisType.Explicit:
        assert all(leaf.sharding.is_equivalent_to(of_weights, leaf.ndim) for leaf in jax.tree.leaves(actual[0]))
        assert actual[1].sharding.is_equivalent_to(rows, 3)
    assert_close(jax.device_get(actual), expected)


def test_in_mixed_precision_parameters_keep_their_type_and_lengths_theirs():
    net = jn.chain(jn.gru(2, 3), jn.lstm(3, 3, last=True))
    x, params = (drawn.normal(3, 4, 2), jnp.asarray(LENGTHS)), drawn.parameters(net)
    _, cache = jax.eval_shape(jn.mixed_precision(net).forward, params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(cache)} == {jnp.dtype(jnp.bfloat16), jnp.dtype(bool)}

    @jax.jit
    def both(params, x, y):
        return [jn.value_and_grad(of_type, LOSS)(params, x, y)[1] for of_type in (jn.mixed_precision(net), net)]

    actual, expected = jax.device_get(both(params, x, jnp.ones((3, 3))))
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == np.float32
        assert 0 < np.abs(ours - theirs).max() < 0.03 * np.abs(theirs).max()


def test_exported_for_every_platform_it_takes_any_number_of_examples():
    net = jn.chain(jn.rnn(2, 3), jn.gru(3, 3), jn.lstm(3, 2, last=True))
    params = drawn.parameters(net)
    leaves, structure = jax.tree.flatten(params)

    def clipped(leaves, x, lengths, y):
        read = per_example.clipped(0.1)
        value, grads = jn.value_and_grad(net, LOSS, read=read)(structure.unflatten(leaves), (x, lengths), y)
        return value, jax.tree.leaves(grads)

    (m,) = export.symbolic_shape("m")
    like = [
        jax.ShapeDtypeStruct((m, *rest), dtype) for *rest, dtype in ((4, 2, np.float32), (np.int32,), (2, np.float32))
    ]
    exported = export.export(jax.jit(clipped), platforms=["cpu", "cuda", "tpu"])(leaves, *like)
    given = drawn.normal(3, 4, 2), jnp.asarray(LENGTHS), jnp.ones((3, 2))
    actual = export.deserialize(exported.serialize()).call(leaves, *given)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(jax.jit(clipped)(leaves, *given)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@every_layer
@pytest.mark.parametrize("shape", [(0, 4, 2), (3, 0, 2), (1, 1, 2)], ids=["no example", "no time", "one of each"])
def test_nothing_and_one_are_enough(name, shape, key):
    x = jnp.ones(shape)
    for last in (False, True):
        layer = LAYERS[name](2, 1, last=last)

        def everything(params, x, layer=layer):
            y, cache = layer.forward(params, x)
            dparams, dx = layer.backward(params, cache, jnp.ones_like(y))
            return y, per_example.total(dparams, per_example.norms(dparams)), dx

        params = jax.eval_shape(layer.init, key)
        y, total, dx = jax.eval_shape(everything, params, x)
        assert (y.shape, dx.shape) == ((shape[0], 1) if last else (*shape[:2], 1), shape)
        assert total == params


@every_layer
def test_it_starts_with_a_state_whose_length_stays_and_an_lstm_remembers(name, key):
    params = LAYERS[name](4, 3).init(key)
    for U in jnp.reshape(params.U, (-1, 3, 3)):
        np.testing.assert_allclose(U @ U.T, np.eye(3), atol=1e-6)
    W = jnp.reshape(params.W, (-1, 3, 4))
    assert float(jnp.abs(W).max()) <= (6 / 7) ** 0.5
    expected = {"rnn": [0], "gru": [0, 0, 0], "lstm": [0, 1, 0, 0]}[name]
    np.testing.assert_array_equal(params.b, np.repeat(np.float32(expected), 3))
    without = LAYERS[name](4, 3, bias=False).init(key)
    assert {len(leaf.shape) for leaf in jax.tree.leaves(without)} == {2}


@every_layer
def test_it_is_printed_as_it_was_made_and_can_be_pickled(name, key):
    layer = LAYERS[name](2, 3, last=True, bias=False)
    assert repr(layer) == f"{name}(2, 3, last=True, bias=False)"
    again = pickle.loads(pickle.dumps(layer))
    assert repr(again) == repr(layer)
    assert repr(jn.rnn(2, 3, activation="relu")) == "rnn(2, 3, activation='relu')"
    table = str(jn.summary(layer, jax.eval_shape(layer.init, key), jnp.ones((3, 4, 2))))
    assert table.splitlines()[1].split()[:2] == [name, "W"]


@pytest.mark.parametrize(("name", "last"), [("rnn", False), ("gru", True), ("gru", False), ("lstm", False)])
def test_memory_is_within_autodiffs_and_operations_within_a_hundredth(name, last, monkeypatch):
    """XLA counts the body of a scan once: operations are those of a program without."""
    net = jn.chain(LAYERS[name](64, 64, last=last), jn.dense(64, 64))
    params = jax.eval_shape(net.init, jax.random.key(0))

    def mean_loss(params, x, y):
        return LOSS.forward(net.apply(params, x), y).mean()

    def both(times):
        x = jax.ShapeDtypeStruct((16, times, 64), jnp.float32)
        y = jax.eval_shape(net.apply, params, x)
        for gradient in (jn.value_and_grad(net, LOSS), jax.value_and_grad(mean_loss)):
            yield jax.jit(gradient).lower(params, x, y).compile()

    ours, theirs = (program.memory_analysis().temp_size_in_bytes for program in both(32))
    assert ours <= theirs
    scan = jax.lax.scan
    monkeypatch.setattr(jax.lax, "scan", lambda *a, **options: scan(*a, **options, unroll=True))
    ours, theirs = (program.cost_analysis()["flops"] for program in both(4))
    assert ours <= 1.01 * theirs


@messages
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda p: jn.gru(0, 3), "gru: expected inputs to be a positive integer, got 0"),
        (lambda p: jn.lstm(2, 3.0), "lstm: expected hidden to be a positive integer, got 3.0"),
        (
            lambda p: jn.rnn(2, 3, activation=jn.tanh),
            "rnn: expected activation to be 'tanh' or 'relu', got the layer tanh",
        ),
        (
            lambda p: jn.gru(2, 3).forward(p, jnp.ones((3, 2))),
            "gru(2, 3): expected x of shape (m, t, 2), or a tuple of x and whole lengths (m,), got (3, 2)",
        ),
        (
            lambda p: jn.gru(2, 3).forward(p, (jnp.ones((3, 4, 2)), jnp.ones(3))),
            "gru(2, 3): expected x of shape (m, t, 2), or a tuple of x and whole lengths (m,), got a tuple",
        ),
        (
            lambda p: jn.gru(2, 3).forward(p, (jnp.ones((3, 4, 2)), jnp.ones(2, int))),
            "gru(2, 3): expected a length for each of 3 examples, got 2",
        ),
        (
            lambda p: jn.gru(2, 3).forward(p, jnp.ones((3, 4, 2), int)),
            "gru(2, 3): expected x of W's dtype float32, got int32; convert it with x.astype('float32')",
        ),
        (
            lambda p: jn.gru(2, 4).forward(p, jnp.ones((3, 4, 2))),
            "gru(2, 4): expected parameters W (12, 2), U (12, 4), b (12,), b_n (4,), "
            "got W (9, 2), U (9, 3), b (9,), b_n (3,); they are another layer's",
        ),
        (
            lambda p: jn.rnn(2, 3).forward(p, jnp.ones((3, 4, 2))),
            "rnn(2, 3): expected parameters RNN(W, U, b), got a GRU",
        ),
        (
            lambda p: jn.gru(2, 3).backward(p, jn.gru(2, 3).forward(p, jnp.ones((3, 4, 2)))[1], jnp.ones((3, 3))),
            "gru(2, 3): expected dy of shape (3, 4, 3), that of y, got (3, 3)",
        ),
    ],
)
def test_misuse_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse(drawn.parameters(jn.gru(2, 3)))
    assert str(error.value) == message
