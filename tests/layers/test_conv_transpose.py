"""Transposed convolutions: against autodiff, PyTorch's own, `conv` backward, and one device."""

import json
from functools import cache

import conv_by_torch
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import curvature, per_example
from jaxnet.parameters import Sides, sides_of

LOSS = jn.losses.half_squared_error
messages = pytest.mark.usefixtures("without_shape_annotations")

OPTIONS = {
    # places of x, window, options.
    "one axis, 'SAME'": ((4,), (3,), {"stride": 2}),
    "'SAME' with a stride beyond the window": ((3, 2), (2, 1), {"stride": (3, 2), "bias": False}),
    "'VALID', in groups": ((3, 2), (2, 3), {"stride": (3, 1), "padding": "VALID", "groups": 2}),
    "all at once": (
        (4, 3),
        (3, 2),
        {"stride": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (1, 2), "groups": 2},
    ),
    "three axes": ((2, 3, 2), (2, 2, 1), {"stride": (1, 2, 1)}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_backward_equals_autodiff(name, key):
    places, window, options = OPTIONS[name]
    layer = jn.conv_transpose(4, 6, window, **options)
    short_types = ("bfloat16",) if name == "all at once" else ()
    jn.testing.check_layer(layer, jax.random.normal(key, (3, *places, 4)), key, short_types=short_types)


def test_it_is_the_way_back_of_a_convolution(x64, key):
    @jax.jit
    def products(key):
        def of(places, window, options):
            options = options | {"bias": False}
            layer, forward = jn.conv_transpose(4, 6, window, **options), jn.conv(6, 4, window, **options)
            params, x = layer.init(key), jax.random.normal(key, (3, *places, 4))
            z = layer(params, x)
            u = jax.random.normal(jax.random.key(1), z.shape)
            of_u = forward(jn.Conv(params.W), u)
            assert of_u.shape == x.shape
            return (z * u).sum(), (x * of_u).sum()

        return {name: of(*case) for name, case in OPTIONS.items()}

    for name, (of_layer, of_convolution) in products(key).items():
        np.testing.assert_allclose(of_layer, of_convolution, rtol=1e-12, err_msg=name)


SMALL = jn.conv_transpose(4, 4, (3, 2), groups=2)
NETWORKS = {
    "chain": jn.chain(jn.conv(2, 4, (2, 2), stride=2), jn.tanh, jn.conv_transpose(4, 2, (2, 3), stride=2, groups=2)),
    "residual": jn.residual(SMALL),
    "repeat and recompute": jn.repeat(jn.recompute(jn.chain(SMALL, jn.tanh)), 2),
    "mixed precision": jn.mixed_precision(SMALL, jnp.float64),
}


def test_in_networks_backward_equals_autodiff(key):
    """Beside one another: all but the first take four channels."""
    others = jn.branches(*(net for name, net in NETWORKS.items() if name != "chain"))
    net = jn.branches(NETWORKS["chain"], jn.chain(jn.conv(2, 4, (1, 1)), others))
    jn.testing.check_layer(net, jax.random.normal(key, (3, 4, 2, 2)), key, short_types=())


def test_forward_and_gradients_are_pytorchs(x64):
    values, asked = json.loads(conv_by_torch.VALUES.read_text()), {}
    for name, case in conv_by_torch.TRANSPOSED.items():
        W, b, x = map(jnp.asarray, conv_by_torch.arrays(case, transposed=True))
        shape = np.shape(values[f"conv_transpose, {name}"]["z"])
        asked[name] = jn.ConvTranspose(W, b), x, jnp.asarray(conv_by_torch.cotangent(shape))

    @jax.jit
    def of_all(asked):
        def of(case, params, x, dz):
            _, inputs, outputs, options = case
            layer = jn.conv_transpose(inputs, outputs, **options)
            z, cache = layer.forward(params, x)
            dparams, dx = layer.backward(params, cache, dz)
            total = per_example.total(dparams)
            return {"z": z, "dW": total.W, "db": total.b, "dx": dx}

        return {name: of(conv_by_torch.TRANSPOSED[name], *arrays) for name, arrays in asked.items()}

    for name, actual in of_all(asked).items():
        for what, value in actual.items():
            expected = values[f"conv_transpose, {name}"][what]
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-10, err_msg=f"{name}, {what}")


def test_every_reading_and_curvature_is_that_of_explicit_matrices(x64, key):
    net = NETWORKS["chain"]
    params, x = net.init(key), jax.random.normal(key, (3, 4, 2, 2))
    y = jnp.cos(x)

    def everything(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))
        readings = {
            "each": per_example.each(dparams),
            "norms": per_example.norms(dparams),
            "gram": per_example.gram(dparams),
            "variance": per_example.variance(dparams),
            "clipped": per_example.clipped_mean(dparams, 0.5),
            "dot": per_example.dot(dparams, params),
            "diagonal": curvature.ggn_diagonal(net, LOSS, params, x, y),
            "blocks": curvature.ggn_blocks(net, LOSS, params, x, y),
            "hessian": curvature.hessian_diagonal(net, LOSS, params, x, y),
        }
        of_one = lambda p, x, y: LOSS.forward(net.apply(p, x[None]), y[None])[0]  # noqa: E731
        g = jax.vmap(jax.grad(of_one), (None, 0, 0))(params, x, y)
        jacobian = jax.vmap(jax.jacrev(lambda p, x: net.apply(p, x[None])[0].ravel()), (None, 0))(params, x)
        flat, unflatten = jax.flatten_util.ravel_pytree(params)
        hessian = jax.hessian(lambda flat: LOSS.forward(net.apply(unflatten(flat), x), y).mean())(flat)
        return readings, g, jacobian, unflatten(jnp.diag(hessian)), flat

    readings, g, jacobian, hessian, direction = jax.device_get(jax.jit(everything)(params, x, y))
    rows = np.concatenate([np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(g)], axis=1)
    lengths = np.sqrt((rows**2).sum(1))
    outputs = [np.reshape(leaf, (*leaf.shape[:2], -1)) for leaf in jax.tree.leaves(jacobian)]
    expected = {
        "each": g,
        "norms": lengths,
        "gram": rows @ rows.T,
        "variance": jax.tree.map(lambda leaf: leaf.var(0), g),
        "clipped": jax.tree.map(lambda leaf: np.tensordot(np.minimum(1, 0.5 / lengths) / 3, leaf, 1), g),
        "dot": rows @ direction,
        "diagonal": jax.tree.map(lambda leaf: (leaf**2).sum(1).mean(0), jacobian),
        "blocks": [np.einsum("mvp,mvq->pq", leaf, leaf) / 3 for leaf in outputs],
        "hessian": hessian,
    }
    for reading, values in expected.items():
        for ours, theirs in zip(*map(jax.tree.leaves, (readings[reading], values)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max(), err_msg=reading)


def test_its_kronecker_factors_are_the_block_where_one_place_spreads(x64, key):
    """Of each group: of the inputs, which the weight has first, and of what comes back to the window."""
    net = jn.conv_transpose(4, 2, (2, 2), padding="VALID", groups=2)
    params, x = net.init(key), jax.random.normal(key, (5, 1, 1, 4))
    y = jnp.ones((5, 2, 2, 2))
    reads = curvature.kflr, curvature.ggn_blocks, curvature.ekfac
    factors, blocks, eigen = jax.jit(lambda *arguments: [read(net, LOSS, *arguments) for read in reads])(params, x, y)
    (of_inputs, of_window), whole = factors.W, np.asarray(blocks.W).reshape(2, 8, 2, 8)
    for group in range(2):
        block = np.kron(of_inputs[group], of_window[group])
        np.testing.assert_allclose(block, whole[group, :, group], rtol=0, atol=1e-12)
    values = np.sort(eigen.W.values.reshape(2, -1), axis=1)
    expected = [np.linalg.eigvalsh(whole[group, :, group]) for group in range(2)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


SPREAD = jn.chain(jn.conv_transpose(2, 4, (3, 2), stride=2, groups=2), jn.tanh, jn.conv_transpose(4, 2, (2, 2)))


@jax.jit
def everything(params, x, y):
    z, cache = SPREAD.forward(params, x)
    dparams, dx = SPREAD.backward(params, cache, LOSS.backward(z, y))
    return jn.value_and_grad(SPREAD, LOSS)(params, x, y), {
        "dx": dx,
        "norms": per_example.norms(dparams),
        "clipped": per_example.clipped_mean(dparams, 0.5),
        "variance": per_example.variance(dparams),
        "kflr": curvature.kflr(SPREAD, LOSS, params, x, y),
    }


@cache
def on_one_device():
    """What is asked, and the answers; with 64-bit types enabled."""
    key = jax.random.key(2026)
    batch = (jax.random.normal(key, shape) for shape in ((8, 2, 3, 2), (8, 4, 6, 2)))
    alone = jax.device_get((SPREAD.init(key), *batch))
    return alone, jax.device_get(everything(*alone))


@pytest.mark.parametrize(
    ("axis_type", "layout"),
    [(AxisType.Auto, ("data", "model")), (AxisType.Explicit, ("data", None)), (AxisType.Explicit, ("data", "model"))],
    ids=str,
)
def test_over_devices_the_numbers_are_those_of_one(axis_type, layout, x64):
    alone, expected = on_one_device()
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        rows, of_params = (NamedSharding(mesh, PartitionSpec(axis)) for axis in layout)
        actual = everything(jax.device_put(alone[0], of_params), *jax.device_put(alone[1:], rows))
    for ours, theirs in zip(*map(jax.tree.leaves, (jax.device_get(actual), expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max())


def test_a_gradient_is_lowered_for_cpu_cuda_and_tpu_with_any_batch_size(key):
    net = NETWORKS["chain"]
    leaves, structure = jax.tree.flatten(net.init(key))

    def gradient(leaves, x, y):
        return jax.tree.leaves(jn.value_and_grad(net, LOSS)(jax.tree.unflatten(structure, leaves), x, y))

    (m,) = export.symbolic_shape("m")
    like = jax.ShapeDtypeStruct((m, 4, 2, 2), np.float32)
    exported = export.export(jax.jit(gradient), platforms=["cpu", "cuda", "tpu"])(leaves, like, like)
    x = jax.random.normal(key, (5, 4, 2, 2))
    actual, expected = export.deserialize(exported.serialize()).call(leaves, x, x), jax.jit(gradient)(leaves, x, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), actual, expected)


def test_positions_are_those_that_its_padding_leaves():
    def positions(**options):
        layer = jn.conv_transpose(1, 1, (3,), **options)
        return jax.eval_shape(layer.apply, layer.init(jax.random.key(0)), jnp.ones((1, 4, 1))).shape[1]

    assert positions() == 4
    assert positions(stride=2) == 8
    assert positions(stride=4) == 16
    assert positions(stride=2, padding="VALID") == 9
    assert positions(stride=2, padding=((1, 2),)) == 6
    assert positions(dilation=2, padding="VALID") == 8


def test_its_outputs_are_the_last_axis_of_its_weight_and_start_as_such(key):
    layer = jn.conv_transpose(32, 64, (3, 3), groups=2, weight_init=jn.initializers.he)
    params = layer.init(key)
    assert params.W.shape == (32, 3, 3, 32)
    np.testing.assert_allclose(params.W.std(), (2 / (9 * 16)) ** 0.5, rtol=0.05)
    found = sides_of(layer, params, jax.ShapeDtypeStruct((2, 4, 4, 32), jnp.float32))
    assert found == jn.ConvTranspose(Sides(outputs=3, inputs=0), Sides())


GIVEN = jn.ConvTranspose(jnp.ones((1, 2, 1)), jnp.ones(1))


@messages
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: jn.conv_transpose(4, 6, (3,), groups=4),
            "conv_transpose: expected groups to divide 4 inputs and 6 outputs, got 4",
        ),
        (
            lambda: jax.eval_shape(
                jn.conv_transpose(1, 1, (2,), padding=((3, 2),)).forward, GIVEN, jnp.ones((2, 3, 1))
            ),
            "conv_transpose(1, 1, (2,), padding=((3, 2),)): expected padding to leave at least one position, got (-1,)",
        ),
        (
            lambda: jn.conv_transpose(1, 1, (2,)).forward(jn.Conv(*GIVEN), jnp.ones((2, 3, 1))),
            "conv_transpose(1, 1, (2,)): expected parameters ConvTranspose(W, b), got a Conv",
        ),
        (
            lambda: jn.conv_transpose(1, 1, (2,)).backward(GIVEN, jnp.ones((2, 3, 1)), jnp.ones((2, 4, 1))),
            "conv_transpose(1, 1, (2,)): expected dz of shape (2, 3, 1), that of z, got (2, 4, 1)",
        ),
    ],
    ids=["groups", "nothing left", "parameters", "cotangent"],
)
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message
