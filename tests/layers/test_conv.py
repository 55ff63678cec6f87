"""Convolutions: against autodiff over their options, PyTorch's own, and one device."""

import json
from functools import cache, partial

import conv_by_torch
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import curvature, per_example

LOSS = jn.losses.half_squared_error
messages = pytest.mark.usefixtures("without_shape_annotations")

CASES = {
    # positions of x, and the layer.
    "one axis, 'SAME'": ((6,), jn.conv(2, 3, (3,))),
    "a stride beyond the window": ((9, 4), jn.conv(2, 2, (2, 1), stride=(4, 3), padding="VALID")),
    "all at once": (
        (7, 6),
        jn.conv(4, 6, (3, 2), stride=(2, 1), padding=((1, 2), (0, 3)), dilation=(1, 2), groups=2, bias=False),
    ),
    "a group for each channel": ((4, 4), jn.conv(3, 6, (2, 2), groups=3)),
    "three axes": ((3, 4, 2), jn.conv(2, 2, (2, 3, 1), stride=(1, 3, 1), padding=((1, 0), (2, 2), (0, 0)))),
}


@pytest.mark.parametrize("name", CASES)
def test_backward_equals_autodiff(name, key):
    positions, layer = CASES[name]
    x = jax.random.normal(key, (3, *positions, layer.forward.args[0].inputs))
    jn.testing.check_layer(layer, x, key, short_types=("bfloat16",) if name == "all at once" else ())


SMALL = jn.conv(4, 4, (3, 2), groups=2)
NETWORKS = {
    "chain": jn.chain(jn.conv(4, 2, (2, 2), stride=2), jn.tanh, jn.conv(2, 3, (2, 1), bias=False)),
    "residual": jn.residual(SMALL),
    "repeat": jn.repeat(jn.chain(SMALL, jn.tanh), 2),
    "repeat and recompute": jn.repeat(jn.recompute(jn.residual(jn.chain(SMALL, jn.tanh))), 2),
    "branches": jn.branches(SMALL, jn.conv(4, 2, (1, 1))),
}


def test_in_networks_backward_equals_autodiff(key):
    """Beside one another, as the test's compiled programs are then few."""
    networks = jn.branches(*NETWORKS.values())
    jn.testing.check_layer(networks, jax.random.normal(key, (3, 4, 3, 4)), key, short_types=())


def by_jax(positions, layer):
    """The layer as JAX's own convolution, by definition: for its derivatives."""
    asked = layer.forward.args[0]
    axes, window = len(positions), asked.sliding.on("", positions)
    order = (0, axes + 1, *range(1, axes + 1))

    def apply(params, x):
        z = jax.lax.conv_general_dilated(
            x,
            params.W,
            window.stride,
            window.padding,
            None,
            window.dilation,
            jax.lax.ConvDimensionNumbers(order, order, order),
            feature_group_count=asked.groups,
        )
        return z if params.b is None else z + jnp.expand_dims(params.b, range(axes + 1))

    return apply


@st.composite
def arguments(draw):
    axes, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    numbers = lambda least, most: draw(st.tuples(*[st.integers(least, most)] * axes))  # noqa: E731
    window, dilation = numbers(1, 3), numbers(1, 2)
    pairs = tuple(draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in range(axes))
    padding = draw(st.sampled_from(["SAME", "VALID", pairs]))
    options = {"stride": numbers(1, 3), "padding": padding, "dilation": dilation, "groups": groups}
    further = numbers(0, 3)
    positions = tuple((k - 1) * d + 1 + n for k, d, n in zip(window, dilation, further, strict=True))
    channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    return positions, (*channels, window), options


@settings(max_examples=8)
@given(arguments())
def test_whatever_its_options_are_gradients_and_signals_are_those_of_jax(case):
    positions, sizes, options = case
    layer = jn.conv(*sizes, **options)
    with jax.enable_x64(True):
        params_key, x_key, dz_key = jax.random.split(jax.random.key(0), 3)
        params = layer.init(params_key)
        x = jax.random.normal(x_key, (3, *positions, layer.forward.args[0].inputs))
        apply = by_jax(positions, layer)

        def both(params, x):
            z, cache = layer.forward(params, x)
            dz = jax.random.normal(dz_key, z.shape)
            dparams, dx = layer.backward(params, cache, dz)
            expected, vjp = jax.vjp(apply, params, x)
            each = jax.vmap(lambda x, dz: jax.vjp(lambda p: apply(p, x[None])[0], params)[1](dz)[0])(x, dz)
            return (z, per_example.total(dparams), dx, per_example.each(dparams)), (expected, *vjp(dz), each)

        actual, expected = jax.jit(both)(params, x)
        for ours, theirs in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, np.abs(theirs).max()))


def test_forward_and_gradients_are_pytorchs(x64):
    values, asked = json.loads(conv_by_torch.VALUES.read_text()), {}
    for name, case in conv_by_torch.CASES.items():
        W, b, x = map(jnp.asarray, conv_by_torch.arrays(case))
        asked[name] = jn.Conv(W, b), x, jnp.asarray(conv_by_torch.cotangent(np.shape(values[f"conv, {name}"]["z"])))

    @jax.jit
    def of_all(asked):
        def of(case, params, x, dz):
            _, inputs, outputs, options = case
            layer = jn.conv(inputs, outputs, **options)
            z, cache = layer.forward(params, x)
            dparams, dx = layer.backward(params, cache, dz)
            total = per_example.total(dparams)
            return {"z": z, "dW": total.W, "db": total.b, "dx": dx}

        return {name: of(conv_by_torch.CASES[name], *arrays) for name, arrays in asked.items()}

    for name, actual in of_all(asked).items():
        for what, value in actual.items():
            expected = values[f"conv, {name}"][what]
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-10, err_msg=f"{name}, {what}")


def flat(tree):
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(tree)], axis=1)


NETS = {
    "convolutions": (NETWORKS["chain"], (4, 3, 4)),
    "repeated": (NETWORKS["repeat"], (3, 2, 4)),
}


@pytest.mark.parametrize("name", ["convolutions", "repeated"])
def test_every_reading_and_curvature_is_that_of_explicit_matrices(name, x64, key):
    net, shape = NETS[name]
    params, x = net.init(key), jax.random.normal(key, (3, *shape))
    y = jnp.ones(jax.eval_shape(net.apply, params, x).shape) / 3

    def loss_of_one(params, x, y):
        return LOSS.forward(net.apply(params, x[None]), y[None])[0]

    def everything(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))
        readings = {
            "each": per_example.each(dparams),
            "norms": per_example.norms(dparams),
            "gram": per_example.gram(dparams),
            "variance": per_example.variance(dparams),
            "noise scale": per_example.noise_scale(dparams),
            "clipped": per_example.clipped_mean(dparams, 0.5),
            "diagonal": curvature.ggn_diagonal(net, LOSS, params, x, y),
            "of each": curvature.ggn_diagonal_per_example(net, LOSS, params, x, y),
            "blocks": curvature.ggn_blocks(net, LOSS, params, x, y),
            "hessian": curvature.hessian_diagonal(net, LOSS, params, x, y),
            "kernel": curvature.neural_tangent_kernel(net, params, x),
        }
        g = jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(params, x, y)
        jacobian = jax.vmap(jax.jacrev(lambda p, x: net.apply(p, x[None])[0].ravel()), (None, 0))(params, x)
        flat_params, unflatten = jax.flatten_util.ravel_pytree(params)
        mean_loss = lambda flat: LOSS.forward(net.apply(unflatten(flat), x), y).mean()  # noqa: E731
        return readings, g, jacobian, unflatten(jnp.diag(jax.hessian(mean_loss)(flat_params)))

    readings, g, jacobian, hessian = jax.device_get(jax.jit(everything)(params, x, y))
    rows = flat(g)
    lengths = np.sqrt((rows**2).sum(1))
    outputs = [np.reshape(leaf, (*leaf.shape[:2], -1)) for leaf in jax.tree.leaves(jacobian)]
    noise = rows.var(0, ddof=1).sum()
    expected = {
        "each": g,
        "norms": lengths,
        "gram": rows @ rows.T,
        "variance": jax.tree.map(lambda leaf: leaf.var(0), g),
        "noise scale": noise / ((rows.mean(0) ** 2).sum() - noise / 3),
        "clipped": jax.tree.map(lambda leaf: np.tensordot(np.minimum(1, 0.5 / lengths) / 3, leaf, 1), g),
        "diagonal": jax.tree.map(lambda leaf: (leaf**2).sum(1).mean(0), jacobian),
        "of each": jax.tree.map(lambda leaf: (leaf**2).sum(1), jacobian),
        "blocks": [np.einsum("mvp,mvq->pq", leaf, leaf) / 3 for leaf in outputs],
        "hessian": hessian,
        "kernel": sum(np.einsum("mvp,nwp->mnvw", leaf, leaf) for leaf in outputs),
    }
    for reading, values in expected.items():
        for ours, theirs in zip(*map(jax.tree.leaves, (readings[reading], values)), strict=True):
            largest = np.abs(theirs).max()
            np.testing.assert_allclose(
                ours.reshape(theirs.shape), theirs, rtol=0, atol=1e-11 * largest, err_msg=reading
            )


def test_kronecker_factors_of_a_single_place_are_exact_in_a_linear_network(x64, key):
    """Squared errors send the same columns back for all examples; with one place nothing is left out."""
    net = jn.chain(jn.conv(4, 6, (2, 3), padding="VALID", groups=2), jn.conv(6, 2, (1, 1), bias=False))
    params, x = net.init(key), jax.random.normal(key, (5, 2, 3, 4))
    y = jnp.ones((5, 1, 1, 2))
    factors, blocks, eigen = jax.jit(
        lambda params, x, y: (
            curvature.kflr(net, LOSS, params, x, y),
            curvature.ggn_blocks(net, LOSS, params, x, y),
            curvature.ekfac(net, LOSS, params, x, y),
        )
    )(params, x, y)
    (B, A), whole = factors[0].W, np.asarray(blocks[0].W).reshape(2, 36, 2, 36)
    for group in range(2):
        np.testing.assert_allclose(np.kron(B[group], A[group]), whole[group, :, group], rtol=0, atol=1e-12)
    values = np.sort(eigen[0].W.values.reshape(2, -1), axis=1)
    expected = [np.linalg.eigvalsh(whole[group, :, group]) for group in range(2)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)
    B, A = factors[1].W
    np.testing.assert_allclose(np.kron(B, A), blocks[1].W, rtol=0, atol=1e-12)


BATCH, NEURONS, BOTH = (("data", None), (None, "model"), ("data", "model"))


def over_devices(groups):
    return jn.chain(
        jn.conv(2, 4, (3, 2), groups=groups), jn.tanh, jn.conv(4, 4, (2, 2), stride=2, groups=groups, bias=False)
    )


@partial(jax.jit, static_argnums=0)
def everything(groups, params, x, y, weights):
    net = over_devices(groups)
    z, cache = net.forward(params, x)
    dparams, dx = net.backward(params, cache, LOSS.backward(z, y))
    return jn.value_and_grad(net, LOSS)(params, x, y, weights), {
        "dx": dx,
        "each": per_example.each(dparams),
        "norms": per_example.norms(dparams),
        "clipped": per_example.clipped_mean(dparams, 0.5),
        "variance": per_example.variance(dparams),
        "dot": per_example.dot(dparams, params),
        "gram": per_example.gram(dparams),
        "kflr": curvature.kflr(net, LOSS, params, x, y),
        "diagonal": curvature.ggn_diagonal(net, LOSS, params, x, y),
        "product": curvature.ggn_vector_product(net, LOSS, params, x, y, params),
    }


@cache
def on_one_device(groups):
    """What is asked, and the answers; with 64-bit types enabled."""
    key = jax.random.key(2026)
    shapes = (8, 3, 4, 2), (8, 2, 2, 4)
    batch = *(jax.random.normal(key, shape) for shape in shapes), jnp.arange(8.0)
    alone = jax.device_get((over_devices(groups).init(key), *batch))
    return alone, jax.device_get(everything(groups, *alone))


@pytest.mark.parametrize(
    ("axis_type", "groups", "layout"),
    [
        (AxisType.Auto, 2, BOTH),
        (AxisType.Explicit, 1, BOTH),
        (AxisType.Explicit, 2, BATCH),
        (AxisType.Explicit, 2, NEURONS),
        (AxisType.Explicit, 2, BOTH),
    ],
    ids=str,
)
def test_over_devices_the_numbers_are_those_of_one(axis_type, groups, layout, x64):
    """`jax.grad` itself is no oracle here: of several groups on a mesh it gives twice the gradient (jax 0.10.2)."""
    alone, expected = on_one_device(groups)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        rows, of_params = (NamedSharding(mesh, PartitionSpec(axis)) for axis in layout)
        params = jax.device_put(alone[0], of_params)
        actual = everything(groups, params, *jax.device_put(alone[1:], rows))
        if axis_type == AxisType.Explicit:
            for weight, gradient in zip(*map(jax.tree.leaves, (params, actual[0][1])), strict=True):
                assert gradient.sharding.is_equivalent_to(weight.sharding, weight.ndim)
    for ours, theirs in zip(*map(jax.tree.leaves, (jax.device_get(actual), expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max())


def test_a_gradient_and_a_clipped_one_are_lowered_for_cpu_cuda_and_tpu_with_any_batch_size(key):
    net = jn.chain(jn.conv(2, 4, (3, 3)), jn.relu, jn.conv(4, 4, (3, 3), groups=2, stride=2))
    leaves, structure = jax.tree.flatten(net.init(key))

    def gradients(leaves, x, y):
        params = jax.tree.unflatten(structure, leaves)
        clipped = jn.value_and_grad(net, LOSS, read=per_example.clipped(1.0))(params, x, y)
        return jax.tree.leaves((jn.value_and_grad(net, LOSS)(params, x, y), clipped))

    (m,) = export.symbolic_shape("m")
    shapes = [jax.ShapeDtypeStruct((m, *shape), np.float32) for shape in ((6, 6, 2), (3, 3, 4))]
    exported = export.export(jax.jit(gradients), platforms=["cpu", "cuda", "tpu"])(leaves, *shapes)
    read_back = export.deserialize(exported.serialize())
    for examples in (1, 5):
        batch = jax.random.normal(key, (examples, 6, 6, 2)), jnp.ones((examples, 3, 3, 4))
        actual, expected = read_back.call(leaves, *batch), jax.jit(gradients)(leaves, *batch)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), actual, expected)


def test_in_mixed_precision_gradients_are_summed_in_the_parameters_type(key):
    net = NETWORKS["chain"]
    params, x = net.init(key), jax.random.normal(key, (64, 4, 3, 4))
    y = jnp.ones((64, 2, 2, 3))
    short, read = jn.mixed_precision(net), per_example.clipped(1e6)

    @jax.jit
    def gradients(params, x, y):
        ways = (net, None), (short, None), (short, read)
        return [jn.value_and_grad(layer, LOSS, read=read)(params, x, y)[1] for layer, read in ways]

    exact, *of_short = gradients(params, x, y)
    for actual in of_short:
        for ours, theirs in zip(*map(jax.tree.leaves, (actual, exact)), strict=True):
            assert ours.dtype == jnp.float32
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=8 * 2**-8 * np.abs(theirs).max())


def test_the_forward_pass_is_the_sum_over_the_window():
    x = jnp.array([[[1.0], [2.0], [3.0], [4.0]]])
    params = jn.Conv(W=jnp.array([[[1.0], [10.0]]]), b=jnp.array([0.5]))
    z, _ = jn.conv(1, 1, (2,), padding="VALID").forward(params, x)
    np.testing.assert_array_equal(z[0, :, 0], [21.5, 32.5, 43.5])
    # 'SAME' puts the odd zero behind.
    z, _ = jn.conv(1, 1, (2,)).forward(params, x)
    np.testing.assert_array_equal(z[0, :, 0], [21.5, 32.5, 43.5, 4.5])


def test_weights_start_with_the_variance_that_a_window_of_inputs_asks_for(key):
    params = jn.conv(32, 64, (3, 3), groups=2, weight_init=jn.initializers.he).init(key)
    assert params.W.shape == (64, 3, 3, 16)
    np.testing.assert_allclose(params.W.std(), (2 / (9 * 16)) ** 0.5, rtol=0.05)
    params = jn.conv(32, 64, (3, 3)).init(key)
    np.testing.assert_allclose(params.W.std(), (2 / (9 * (32 + 64))) ** 0.5, rtol=0.05)


def test_its_text_is_the_call_that_makes_it():
    assert repr(jn.conv(3, 8, (3, 3))) == "conv(3, 8, (3, 3))"
    text = "conv(4, 8, (3,), stride=(2,), padding=((1, 0),), dilation=(3,), groups=2, bias=False)"
    assert repr(jn.conv(4, 8, [3], stride=2, padding=[(1, 0)], dilation=3, groups=2, bias=False)) == text


@messages
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jn.conv(0, 4, (3,)), "conv: expected inputs to be a positive integer, got 0"),
        (
            lambda: jn.conv(3, 4, 3),
            "conv: expected a window of one, two or three sizes, such as (3, 3), got 3",
        ),
        (
            lambda: jn.conv(3, 4, (1, 2, 3, 4)),
            "conv: expected a window of one, two or three sizes, such as (3, 3), got (1, 2, 3, 4)",
        ),
        (
            lambda: jn.conv(3, 4, (3, 0)),
            "conv: expected each of the window's sizes to be a positive integer, got 0",
        ),
        (
            lambda: jn.conv(3, 4, (3, 3), stride=(1, 2, 3)),
            "conv: expected stride to be one number, or one for each of 2 axes, got (1, 2, 3)",
        ),
        (lambda: jn.conv(3, 4, (3, 3), dilation=0), "conv: expected dilation to be a positive integer, got 0"),
        *(
            (
                lambda padding=padding: jn.conv(3, 4, (3, 3), padding=padding),
                "conv: expected padding to be 'SAME', 'VALID' or a pair (before, after) of at least 0 for each of 2 "
                f"axes, got {padding!r}",
            )
            for padding in ("same", 1, ((1, 1),), ((1, 1), (0, -1)), ((1, 1), (0, 1, 2)))
        ),
        (lambda: jn.conv(4, 6, (3,), groups=4), "conv: expected groups to divide 4 inputs and 6 outputs, got 4"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


@messages
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((7, 5, 2), np.float32), "expected x of shape (m, q1, q2, 2), got (7, 5, 2)"),
        (np.ones((7, 5, 5, 3), np.float32), "expected x of shape (m, q1, q2, 2), got (7, 5, 5, 3)"),
        (
            np.ones((7, 5, 5, 2), np.int32),
            "expected x of W's dtype float32, got int32; convert it with x.astype('float32')",
        ),
        (
            np.ones((7, 5, 2, 2), np.float32),
            "expected positions, with padding ((0, 0), (0, 0)), of at least the (3, 3) that the window spans, "
            "got (5, 2)",
        ),
    ],
    ids=["axes", "channels", "integers", "no place"],
)
def test_a_wrong_input_is_named(x, message, key):
    layer = jn.conv(2, 4, (3, 3), padding="VALID")
    with pytest.raises(ValueError) as error:
        layer.forward(layer.init(key), x)
    assert str(error.value) == f"conv(2, 4, (3, 3), padding='VALID'): {message}"


@messages
def test_wrong_parameters_and_a_wrong_cotangent_are_named(key):
    layer, x = jn.conv(2, 4, (3,)), jnp.ones((7, 5, 2))
    params = layer.init(key)
    for other, message in (
        ((), "conv(2, 4, (3,)): expected parameters Conv(W, b), got a tuple"),
        (
            params._replace(b=None),
            "conv(2, 4, (3,)): expected parameters W (4, 3, 2) and b (4,), got W (4, 3, 2) and b None; they are "
            "another layer's",
        ),
    ):
        for call in (lambda other=other: layer.forward(other, x), lambda other=other: layer.backward(other, x, x)):
            with pytest.raises(ValueError) as error:
                call()
            assert str(error.value) == message
    with pytest.raises(ValueError) as error:
        layer.backward(params, x, jnp.ones((7, 5, 3)))
    assert str(error.value) == "conv(2, 4, (3,)): expected dz of shape (7, 5, 4), that of z, got (7, 5, 3)"


@messages
def test_numpy_arrays_are_taken_for_parameters_and_input(key):
    layer = jn.conv(2, 4, (3,))
    params = jax.tree.map(np.asarray, layer.init(key))
    z, cache = layer.forward(params, np.ones((3, 5, 2), np.float32))
    dparams, _ = layer.backward(params, cache, np.ones((3, 5, 4), np.float32))
    assert z.shape == (3, 5, 4)
    assert per_example.mean(dparams).W.shape == (4, 3, 2)


def test_its_gradient_costs_what_autodiffs_does_and_a_clipped_one_little_more(monkeypatch):
    """Counted by the compiler, never run; operations without scans, the body of which it counts once."""
    net = jn.chain(
        jn.conv(1, 16, (3, 3)), jn.relu, jn.conv(16, 32, (3, 3), stride=2), jn.relu, jn.conv(32, 32, (3, 3), stride=2)
    )
    params, x = jax.eval_shape(net.init, jax.random.key(0)), jax.ShapeDtypeStruct((32, 28, 28, 1), jnp.float32)
    y = jax.eval_shape(net.apply, params, x)

    def mean_loss(params, x, y):
        return LOSS.forward(net.apply(params, x), y).mean()

    def compiled():
        gradients = (
            jax.value_and_grad(mean_loss),
            jn.value_and_grad(net, LOSS),
            jn.value_and_grad(net, LOSS, read=per_example.clipped(1.0)),
        )
        return [jax.jit(gradient).lower(params, x, y).compile() for gradient in gradients]

    memory = [program.memory_analysis().temp_size_in_bytes for program in compiled()]
    assert memory[1] <= memory[0]
    scan = jax.lax.scan
    monkeypatch.setattr(jax.lax, "scan", lambda *a, **options: scan(*a, **options, unroll=True))
    jax.clear_caches()  # what was traced already has its scans
    operations = [program.cost_analysis()["flops"] for program in compiled()]
    # Products by offset take those of the zeros around an image, too, which the compiler leaves out of a convolution.
    assert operations[1] <= 1.04 * operations[0]
    assert operations[2] <= 1.06 * operations[0]
