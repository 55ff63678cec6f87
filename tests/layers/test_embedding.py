import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from test_per_example import EXAMPLES, assert_close, assert_every_reading

import jaxnet as jn
from jaxnet import curvature, per_example

messages = pytest.mark.usefixtures("without_shape_annotations")
TORCH = json.loads(Path(__file__).with_name("torch_embedding.json").read_text("utf-8"))
IDS = np.random.default_rng(0).integers(0, 5, (EXAMPLES, 4))
LOSS = jn.losses.half_squared_error
NETWORKS = {
    # name: network, ids.
    "alone": (jn.embedding(5, 3), IDS),
    "one position": (jn.embedding(5, 3), IDS[:, 0]),
    "a grid of positions": (jn.embedding(5, 3), IDS.reshape(-1, 2, 2)),
    "padded": (jn.embedding(5, 3, padding=2), IDS),
    "padded out of the table": (jn.embedding(5, 3, padding=-1), np.where(IDS == 2, -1, IDS)),
    "a network": (jn.chain(jn.embedding(5, 3), jn.dense(3, 3), jn.tanh, jn.unembedding(5, 3)), IDS),
    "recomputed": (jn.chain(jn.recompute(jn.embedding(5, 3)), jn.residual(jn.dense(3, 3))), IDS),
    "beside one another": (
        jn.chain(jn.fan_out(jn.embedding(5, 3), jn.embedding(5, 3)), jn.repeat(jn.recompute(jn.unembedding(3, 3)), 2)),
        IDS,
    ),
}


@pytest.mark.parametrize("name", ["one position", "padded out of the table", "a network", "beside one another"])
def test_backward_equals_autodiff(name, key):
    net, ids = NETWORKS[name]
    jn.testing.check_layer(net, jnp.asarray(ids), key)


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3)], ids=str)
def test_backward_of_the_unembedding_equals_autodiff(shape, key):
    jn.testing.check_layer(jn.unembedding(4, 3), jax.random.normal(key, shape), key)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_reading_is_that_of_the_gradients_formed_one_by_one(name, x64, key):
    net, ids = NETWORKS[name]
    params, ids = net.init(key), jnp.asarray(ids)
    y = jax.random.normal(key, jax.eval_shape(net.apply, params, ids).shape)

    def loss_of_one(params, x, y):
        return LOSS.forward(net.apply(params, x[None]), y[None])[0]

    @jax.jit
    def both(params, x, y):
        z, cache = net.forward(params, x)
        dparams, dx = net.backward(params, cache, LOSS.backward(z, y))
        assert dx is None
        return dparams, jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(params, x, y)

    # A row that no example looked up has neither signal nor noise.
    assert_every_reading(*both(params, ids, y), but=["signal_to_noise"])


def test_curvature_is_that_of_the_matrices_formed(x64, key):
    net = jn.chain(jn.embedding(5, 3), jn.tanh, jn.dense(3, 2))
    params, x = net.init(key), jnp.asarray(IDS)
    y = jax.random.normal(key, (*x.shape, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def ours(params):
        return (
            curvature.ggn_diagonal(net, LOSS, params, x, y),
            curvature.ggn_diagonal_per_example(net, LOSS, params, x, y),
            curvature.jacobian(net, params, x),
            curvature.ggn_blocks(net, LOSS, params, x, y),
            curvature.neural_tangent_kernel(net, params, x[:2], x),
            curvature.hessian_diagonal(net, LOSS, params, x, y),
        )

    J = jax.jit(jax.jacfwd(lambda flat: net.apply(unflatten(flat), x)))(flat)
    columns = np.reshape(J, (EXAMPLES, -1, flat.size))
    per_row = (columns**2).sum(1)
    diagonal, by_example, jacobian, blocks, kernel, hessian = ours(params)
    assert_close(diagonal, jax.tree.map(np.asarray, unflatten(jnp.asarray(per_row.mean(0)))))
    assert_close(by_example[0].W, per_row[:, :15].reshape(EXAMPLES, 5, 3))
    assert_close(jacobian[0].W, np.asarray(J)[..., :15].reshape(*y.shape, 5, 3))
    assert_close(blocks[0].W, np.einsum("nvp,nvq->pq", columns, columns)[:15, :15] / EXAMPLES)
    assert_close(np.reshape(kernel, (2, EXAMPLES, 8, 8)), np.einsum("mvp,nup->mnvu", columns[:2], columns))
    full = jax.jit(jax.hessian(lambda flat: LOSS.forward(net.apply(unflatten(flat), x), y).mean()))(flat)
    assert_close(hessian, jax.tree.map(np.asarray, unflatten(jnp.diag(full))))


def test_its_kronecker_factors_are_counts_and_a_matrix_and_exact_in_a_linear_network(x64, key):
    net, x = jn.chain(jn.embedding(5, 3), jn.dense(3, 3)), jnp.asarray(IDS[:, 0])
    params, y = net.init(key), jnp.zeros((EXAMPLES, 3))
    quantities = curvature.kflr, curvature.ggn_blocks, curvature.ekfac
    of_all = jax.jit(lambda *arguments: [quantity(net, LOSS, *arguments)[0].W for quantity in quantities])
    (counts, among_outputs), block, eigen = of_all(params, x, y)
    assert isinstance(counts, curvature.Diagonal)
    assert_close(counts.values, np.bincount(IDS[:, 0], minlength=5) / EXAMPLES)
    assert_close(np.kron(counts.matrix(), among_outputs), block)
    of_ids, of_width = eigen.bases
    basis = np.kron(of_ids.matrix(), of_width)
    assert_close(basis @ np.diag(np.ravel(eigen.values)) @ basis.T, block)


def test_kfra_is_kflr_in_a_linear_network_of_ids(x64, key):
    """All examples have one curvature there, and nothing goes back to ids."""
    net = jn.chain(jn.embedding(5, 3), jn.dense(3, 2))
    params, x, y = net.init(key), jnp.asarray(IDS), jnp.zeros((EXAMPLES, 4, 2))
    kfra, kflr = jax.jit(lambda: [read(net, LOSS, params, x, y) for read in (curvature.kfra, curvature.kflr)])()
    jax.tree.map(assert_close, kfra, jax.device_get(kflr))


@pytest.mark.parametrize("case", ["embedding", "padded", "unembedding"])
def test_forward_and_gradient_are_those_of_torch(case, x64):
    given = {name: jnp.asarray(value) for name, value in TORCH[case].items()}
    layer = (
        jn.unembedding(5, 3) if case == "unembedding" else jn.embedding(5, 3, padding=2 if case == "padded" else None)
    )
    params = jn.Embedding(given["W"])
    z, cache = layer.forward(params, given["x"])
    dparams, dx = layer.backward(params, cache, given["dz"])
    for actual, name in ((z, "z"), (per_example.total(dparams).W, "dW"), (dx, "dx")):
        if actual is not None:
            np.testing.assert_allclose(actual, given[name], rtol=1e-10, atol=1e-14)


def test_ids_of_any_whole_type_are_taken_and_those_out_of_range_give_nan_and_no_gradient(key):
    layer = jn.embedding(5, 3)
    params = layer.init(key)
    for dtype in ("int8", "int16", "int32"):
        ids = np.array([[4, 5], [-1, 0]], dtype)
        z, cache = layer.forward(params, jnp.asarray(ids))
        assert np.isnan(z[0, 1]).all()
        assert np.isnan(z[1, 0]).all()
        np.testing.assert_array_equal(z[0, 0], params.W[4])
        dparams, _ = layer.backward(params, cache, jnp.ones_like(z))
        np.testing.assert_array_equal(per_example.total(dparams).W[:, 0], [1, 0, 0, 0, 1])


@messages
def test_bytes_are_taken_for_ids_of_a_table_that_is_larger(key):
    layer = jn.embedding(300, 3, padding=299)
    z, _ = layer.forward(layer.init(key), np.array([[255]], np.uint8))
    np.testing.assert_array_equal(z[0, 0], layer.init(key).W[255])


def test_at_the_padding_it_is_zero(key):
    layer = jn.embedding(5, 3, padding=2)
    z, _ = layer.forward(layer.init(key), jnp.array([[2, 1]]))
    assert not z[0, 0].any()
    assert z[0, 1].all()
    assert repr(layer) == "embedding(5, 3, padding=2)"


def test_in_mixed_precision_ids_stay_and_gradients_are_summed_in_the_long_type(key):
    net = jn.mixed_precision(jn.chain(jn.embedding(300, 3), jn.unembedding(4, 3)))
    params, x = net.init(key), jnp.array([[257, 0, 257], [1, 299, 257]])
    z, cache = net.forward(params, x)
    dparams, dx = net.backward(params, cache, jnp.ones_like(z))
    assert dx is None
    assert cache[0].dtype == jnp.int32
    assert dparams[0].W.dz.dtype == jnp.bfloat16
    total = per_example.total(dparams)[0].W
    assert total.dtype == jnp.float32
    np.testing.assert_array_equal(np.flatnonzero(total[:, 0]), [0, 1, 257, 299])
    np.testing.assert_allclose(total[257], 3 * total[0], rtol=1e-6)


def test_it_is_exported_for_cpu_cuda_and_tpu_with_any_number_of_examples(key):
    net = jn.chain(jn.embedding(5, 3), jn.unembedding(5, 3))
    params, loss = net.init(key), jn.losses.softmax_cross_entropy_with_integer_labels

    def gradients(tables, x, y):
        read = per_example.clipped(0.1)
        value, grads = jn.value_and_grad(net, loss, read=read)(tuple(map(jn.Embedding, tables)), x, y)
        return value, [table.W for table in grads]

    tables = [table.W for table in params]
    (m,) = export.symbolic_shape("m")
    like = jax.ShapeDtypeStruct((m, 4), np.int32)
    exported = export.export(jax.jit(gradients), platforms=["cpu", "cuda", "tpu"])(tables, like, like)
    x = jnp.asarray(IDS, jnp.int32)
    actual, expected = export.deserialize(exported.serialize()).call(tables, x, x), gradients(tables, x, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), actual, expected)


@messages
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda p: jn.embedding(0, 3), "embedding: expected rows to be a positive integer, got 0"),
        (lambda p: jn.embedding(5, 3.0), "embedding: expected d to be a positive integer, got 3.0"),
        (lambda p: jn.embedding(5, 3, padding=0.5), "embedding: expected padding to be an integer, got 0.5"),
        (lambda p: jn.unembedding(5, 0), "unembedding: expected d to be a positive integer, got 0"),
        (
            lambda p: jn.embedding(5, 3).forward(p, np.ones((2, 4), np.float32)),
            "embedding(5, 3): expected x of whole numbers, ids of 0 to 4, got float32",
        ),
        (
            lambda p: jn.embedding(6, 3).forward(p, IDS),
            "embedding(6, 3): expected parameters W (6, 3), got W (5, 3); they are another layer's",
        ),
        (
            lambda p: jn.embedding(5, 3).forward((), IDS),
            "embedding(5, 3): expected parameters Embedding(W), got a tuple",
        ),
        (
            lambda p: jn.embedding(5, 3).backward(p, jnp.asarray(IDS), jnp.ones((EXAMPLES, 3))),
            "embedding(5, 3): expected dz of shape (6, 4, 3), that of z, got (6, 3)",
        ),
        (
            lambda p: jn.embedding(5, 3).backward(p, jnp.asarray(2), jnp.ones(3)),
            "embedding(5, 3): backward needs the examples as the first axis; pass a single example as x[None]",
        ),
        (
            lambda p: jn.unembedding(5, 3).forward(p, np.ones((2, 4), np.float32)),
            "unembedding(5, 3): expected x of shape (m, ..., 3), got (2, 4)",
        ),
        (
            lambda p: jn.unembedding(5, 3).forward(p, np.ones((2, 3), np.int32)),
            "unembedding(5, 3): expected x of W's dtype float32, got int32; convert it with x.astype('float32')",
        ),
    ],
)
def test_misuse_is_named(misuse, message, key):
    with pytest.raises(ValueError) as error:
        misuse(jn.embedding(5, 3).init(key))
    assert str(error.value) == message
