"""Parameters that are used more than once: every reading is that of the parameters as they are."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_layers import masked
from test_per_example import EXAMPLES, assert_close, assert_every_reading

import jaxnet as jn
from jaxnet import curvature, feedback, per_example
from jaxnet.factored import Rows, Sum

TORCH = json.loads((Path(__file__).parent / "layers" / "torch_embedding.json").read_text("utf-8"))["tied"]
IDS = np.random.default_rng(0).integers(0, 5, (EXAMPLES, 4))
FLOATS = np.random.default_rng(1).standard_normal((EXAMPLES, 2, 3))
LOSS = jn.losses.half_squared_error
BODY = jn.residual(jn.chain(jn.dense(3, 3), jn.tanh))


def language_model(rows=5, body=BODY, d=3):
    return jn.tied(jn.embedding(rows, d), body, jn.unembedding(rows, d))


NETWORKS = {
    # name: network, inputs.
    "table and head": (language_model(), IDS),
    "table and head, one position": (language_model(), IDS[:, 0]),
    "table and head, a large table": (language_model(40), IDS),
    "table and head, repeated body": (language_model(body=jn.repeat(jn.recompute(BODY), 2)), IDS),
    "two dense layers": (jn.tied(jn.dense(3, 3), jn.tanh, jn.dense(3, 3)), FLOATS),
    "shared": (jn.chain(jn.shared(jn.chain(jn.dense(3, 3), jn.tanh), 3), jn.dense(3, 2)), FLOATS),
    "shared, then repeated": (jn.repeat(jn.recompute(jn.shared(jn.chain(jn.dense(3, 3), jn.tanh), 2)), 2), FLOATS),
    "shared inside tied": (language_model(body=jn.shared(BODY, 2)), IDS),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def losses_of(net, params, x, y):
    return LOSS.forward(net.apply(params, x), y)


def problem(name, key):
    net, x = NETWORKS[name]
    params, x = net.init(key), jnp.asarray(x)
    return net, params, x, jax.random.normal(key, jax.eval_shape(net.apply, params, x).shape)


@pytest.mark.parametrize("name", ["table and head", "shared, then repeated", "shared inside tied"])
def test_backward_equals_autodiff(name, key):
    net, x = NETWORKS[name]
    jn.testing.check_layer(net, jnp.asarray(x), key)


@every_network
def test_every_reading_is_that_of_the_gradients_formed_one_by_one(name, x64, key):
    net, params, x, y = problem(name, key)

    @jax.jit
    def both(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))
        one = jax.grad(lambda params, x, y: losses_of(net, params, x[None], y[None])[0])
        return dparams, jax.vmap(one, (None, 0, 0))(params, x, y)

    # A row without signal has no ratio of it to noise.
    assert_every_reading(*both(params, x, y), but=["signal_to_noise"])


@pytest.mark.parametrize("name", ["table and head", "two dense layers", "shared inside tied"])
def test_curvature_is_that_of_the_matrices_formed(name, x64, key):
    net, params, x, y = problem(name, key)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    J = jax.jit(jax.jacfwd(lambda flat: net.apply(unflatten(flat), x)))(flat)
    columns = np.reshape(J, (EXAMPLES, -1, flat.size))
    everything = np.einsum("nvp,nvq->pq", columns, columns) / EXAMPLES

    @jax.jit
    def ours(params):
        return (
            curvature.ggn_diagonal(net, LOSS, params, x, y),
            curvature.ggn_blocks(net, LOSS, params, x, y),
            curvature.kflr(net, LOSS, params, x, y),
            curvature.ekfac(net, LOSS, params, x, y),
        )

    diagonal, blocks, factors, eigen = ours(params)
    assert_close(diagonal, jax.tree.map(np.asarray, unflatten(jnp.diag(jnp.asarray(everything)))))
    # The shared parameters come first.
    first = jax.tree.leaves(params)[0].size
    assert_close(jax.tree.leaves(blocks)[0], everything[:first, :first])
    if name == "table and head":
        # The squares of a row's numbers in one factor, all rows' products of two columns in the other: never (v d)^2.
        of_rows, among_columns = factors[0].W
        F = everything[:first, :first].reshape(2 * jax.tree.leaves(params)[0].shape)
        assert_close(of_rows.values, np.einsum("vdvd->v", F))
        assert_close(among_columns, np.einsum("vdve->de", F) / np.einsum("vdvd->", F))
        assert_close(eigen[0].W.values.sum(), np.trace(everything[:first, :first]))


@pytest.mark.parametrize(
    ("name", "quantity", "instead"),
    [
        ("table and head", "hessian_diagonal", "ggn_diagonal"),
        ("two dense layers", "hessian_diagonal", "ggn_diagonal"),
        ("two dense layers", "kfra", "kflr"),
        ("shared", "hessian_diagonal", "ggn_diagonal"),
        ("shared", "kfra", "kflr"),
    ],
)
def test_diagonals_that_uses_have_a_share_in_together_are_refused(name, quantity, instead, key):
    net, x = NETWORKS[name]
    x = jax.ShapeDtypeStruct(x[:, 0].shape, np.int32 if x.dtype == int else np.float32)
    params = jax.eval_shape(net.init, key)
    y = jax.eval_shape(net.apply, params, x)
    with pytest.raises(ValueError) as error:
        jax.eval_shape(lambda *arguments: getattr(curvature, quantity)(net, LOSS, *arguments), params, x, y)
    assert str(error.value) == (
        f"curvature.{quantity}: expected parameters that are used once, got some that are used twice; use {instead}"
    )


def test_forward_and_gradient_are_those_of_torch(x64):
    given = {name: jnp.asarray(value) for name, value in TORCH.items()}
    net = language_model(body=jn.chain(jn.dense(3, 3), jn.tanh))
    params = (jn.Embedding(given["W"]), (jn.Dense(given["body_W"], given["body_b"]), ()))
    np.testing.assert_allclose(net.apply(params, given["x"]), given["z"], rtol=1e-10)
    loss = jn.losses.softmax_cross_entropy_with_integer_labels
    value, grads = jax.jit(jn.value_and_grad(net, loss))(params, given["x"], given["y"])
    expected = (jn.Embedding(given["dW"]), (jn.Dense(given["dbody_W"], given["dbody_b"]), ()))
    scale = value / given["loss"]
    # The loss is the sum over positions, or their mean.
    assert np.isclose(scale, 1) or np.isclose(scale, 1 / 4)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, scale * theirs, rtol=1e-10, atol=1e-13), grads, expected
    )


def test_uses_that_are_alike_merge_and_others_stand_in_a_sum_of_which_no_table_is_formed(key):
    net = language_model(1000, d=64, body=jn.identity)
    params, x = jax.eval_shape(net.init, key), jax.ShapeDtypeStruct((EXAMPLES, 7), jnp.int32)

    def norms(params, x):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, z)
        form = dparams[0].W
        assert isinstance(form, Sum)
        assert [type(part) for part in form.forms] == [Rows, jn.Outer]
        return per_example.norms(dparams), per_example.dot(dparams, params)

    program = str(jax.make_jaxpr(norms)(params, x))
    assert f"[{EXAMPLES},1000,64]" not in program
    net, _ = NETWORKS["shared"]
    x = jnp.asarray(FLOATS, jnp.float32)
    z, cache = net.forward(net.init(key), x)
    dparams, _ = net.backward(net.init(key), cache, z)
    assert dparams[0][0].W.dz.shape == (EXAMPLES, 6, 3)


def test_what_a_shared_layer_draws_it_draws_anew_each_time(x64, key):
    net = jn.shared(jn.chain(jn.dense(4, 4), masked(0.5)), 3)
    params, x = net.init(key), jax.random.normal(key, (EXAMPLES, 4))
    bound = jn.bind(net, key)
    masks = [cache[1] for cache in bound.forward(params, x)[1]]
    assert not np.array_equal(masks[0], masks[1])
    again = jn.bind(jn.recompute(net), key)
    assert jn.bind(net, key).apply(params, x).sum() == bound.apply(params, x).sum()
    expected = jax.jit(jax.grad(lambda params: LOSS.forward(bound.apply(params, x), x).mean()))(params)
    assert_close(jax.jit(jn.value_and_grad(bound, LOSS))(params, x, x)[1], jax.device_get(expected))
    assert again.apply(params, x).shape == x.shape
    assert jn.shared(jn.dense(4, 4), 2).keyed is None


def test_mixed_precision_and_walks_go_through(key):
    net, x = NETWORKS["table and head"]
    params, y = net.init(key), jax.random.normal(key, (*x.shape, 5))
    short = jn.mixed_precision(net)
    assert jax.eval_shape(short.forward, params, jnp.asarray(x))[1][2].dtype == jnp.bfloat16
    for read in (None, per_example.clipped(1.0)):
        (_, actual), (_, expected) = (
            jax.jit(jn.value_and_grad(layer, LOSS, read=read))(params, jnp.asarray(x), y) for layer in (short, net)
        )
        for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.03 * np.abs(theirs).max())


@pytest.mark.parametrize("name", ["table", "table and head", "shared"])
def test_kfac_preconditions_the_parameters_with_counts_where_they_are_looked_up(name, x64, key):
    nets = {"table": (jn.chain(jn.embedding(5, 3), BODY, jn.dense(3, 2)), IDS)} | NETWORKS
    net, x = nets[name]
    params, x = net.init(key), jnp.asarray(x)
    y = jax.random.normal(key, jax.eval_shape(net.apply, params, x).shape)
    optimizer = jn.optimizers.kfac(net, LOSS, 0.1, damping=0.3, momentum=0.0, key=key)
    state = optimizer.init(params)
    grads = jax.jit(jn.value_and_grad(net, LOSS))(params, x, y)[1]
    updates, new = jax.jit(optimizer.update)(grads, state, params, x=x, y=y)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    if name != "shared":
        of_rows, of_width = new.factors[0].W
        assert isinstance(of_rows, curvature.Diagonal)
        assert of_width.shape == (3, 3)
        pi = np.sqrt((np.trace(of_width) / 3) / (of_rows.values.mean()))
        root = np.sqrt(0.3)
        expected = (
            -0.1
            * (grads[0].W / (of_rows.values + root / pi)[:, None])
            @ np.linalg.inv(of_width + pi * root * np.eye(3))
        )
        assert_close(updates[0].W, np.asarray(expected))


def test_a_step_with_kfac_lowers_the_loss_of_a_tied_network(optax_promotion, key):
    net = language_model()
    x, loss = jnp.asarray(IDS), jn.losses.softmax_cross_entropy_with_integer_labels
    for optimizer in (jn.optimizers.kfac(net, loss, damping=1.0, key=key), optax.adam(1e-2)):
        state, losses = jn.TrainState.create(net.init(key), optimizer), []
        step = jn.make_step(net, loss, optimizer)
        for _ in range(5):
            state, metrics = step(state, x, jnp.roll(x, -1, axis=1))
            losses.append(float(metrics["loss"]))
        assert losses[-1] < losses[0]


@pytest.mark.parametrize(("rows", "d", "positions"), [(96, 32, 16), (2000, 16, 16)], ids=["few rows", "many rows"])
def test_the_gradient_takes_no_more_than_autodiffs_and_the_clipped_mean_little_more(rows, d, positions):
    """Counted by the compiler, and never run."""
    body = jn.chain(jn.position_table(positions, d), jn.residual(jn.dense(d, d)))
    net, loss = language_model(rows, body, d), jn.losses.softmax_cross_entropy_with_integer_labels

    def mean_loss(params, x, y):
        return loss.forward(net.apply(params, x), y).mean()

    params, x = jax.eval_shape(net.init, jax.random.key(0)), jax.ShapeDtypeStruct((8, positions), jnp.int32)
    by_autodiff, by_hand, clipped = (
        jax.jit(gradient).lower(params, x, x).compile()
        for gradient in (
            jax.value_and_grad(mean_loss),
            jn.value_and_grad(net, loss),
            jn.value_and_grad(net, loss, read=per_example.clipped(1.0)),
        )
    )
    operations = [program.cost_analysis()["flops"] for program in (by_autodiff, by_hand, clipped)]
    memory = [program.memory_analysis().temp_size_in_bytes for program in (by_autodiff, by_hand)]
    assert operations[1] <= operations[0]
    assert operations[2] <= 1.25 * operations[0]
    assert memory[1] <= 1.01 * memory[0]


def test_direct_feedback_has_no_place_for_the_weights_of_a_second_use_and_says_so(key):
    net, x = NETWORKS["table and head"]
    with pytest.raises(ValueError) as error:
        feedback.direct_weights(net, net.init(key), jnp.asarray(x), key)
    assert str(error.value) == (
        "feedback.direct_weights: expected layers with parameters of their own, got unembedding with another layer's"
    )
    net = jn.chain(jn.shared(jn.dense(3, 3), 2), jn.dense(3, 2))
    weights = feedback.direct_weights(net, net.init(key), jnp.ones((2, 3)), key)
    assert [B.shape for B in jax.tree.leaves(weights)] == [(2, 3), (2, 3)]


def test_sign_symmetry_takes_the_tied_table_for_a_weight(x64, key):
    net, params, x, y = problem("table and head", key)
    signs = jax.tree.map(lambda leaf: jnp.sign(leaf) * jnp.abs(leaf).mean(), params[0])
    _, cache = net.forward(params, x)
    dparams, _ = feedback.sign_symmetry(net)(params, cache, y)
    head = net.made.args[2]
    _, sent = head.backward(signs, cache[2], y)
    dz = sent * jn.tanh.backward((), cache[1][1], jnp.ones_like(sent))[1]
    np.testing.assert_allclose(dparams[1][0].b.each(), dz.sum(1), rtol=1e-12, atol=1e-14)


def test_the_summary_names_both_uses_by_the_place_of_the_parameters_and_counts_them_once(key):
    net, x = NETWORKS["table and head"]
    table = str(jn.summary(net, jax.eval_shape(net.init, key), jnp.asarray(x)))
    layers = [line.split()[:2] for line in table.splitlines()]
    assert ["[0]", "embedding"] in layers
    assert ["[0]", "unembedding"] in layers
    assert f"  {5 * 3 + 12}  " in table.splitlines()[-1]


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (
            lambda: jn.tied(jn.embedding(5, 3), jn.dense, jn.unembedding(5, 3)),
            "tied: expected body to be a Layer, such as jaxnet.dense(4, 4), got the function dense, which makes one: "
            "call it, as in dense(inputs, outputs)",
        ),
        (lambda: jn.shared(jn.tanh, 0), "shared: expected n to be a positive integer, got 0"),
        (
            lambda: jn.shared(3, 2),
            "shared: expected layer to be a Layer, such as jaxnet.dense(4, 4), got 3",
        ),
        (
            lambda: language_model().forward(((), (), ()), IDS),
            "tied: expected the pair of parameters (shared, body's), got 3",
        ),
        (
            lambda: language_model().forward(jn.Embedding(1), IDS),
            "tied: expected the pair of parameters (shared, body's), got a Embedding",
        ),
        (
            lambda: jax.eval_shape(
                lambda: (net := jn.tied(jn.embedding(5, 3), BODY, jn.unembedding(6, 3))).apply(
                    net.init(jax.random.key(0)), IDS
                )
            ),
            "unembedding(6, 3): expected parameters W (6, 3), got W (5, 3); they are another layer's",
        ),
    ],
)
def test_misuse_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse()
    assert str(error.value) == message
