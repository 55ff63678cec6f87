"""What every network of convolutions or of attention has to give, on instances that are as small as they can be."""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from every_reading import assert_readings_are_autodiffs
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import per_example
from jaxnet.parameters import sides_of

TINY = {"width": 4, "heads": 2, "length": 3}
NETS = {
    "cnn": jn.cnn((4, 5, 1), 2, channels=(2, 2), hidden=(3,), groups=None, dropout=0.3),
    "cnn of one axis with norms": jn.cnn((4, 2), 2, channels=(4,), hidden=(), groups=2, activation=jn.gelu_tanh),
    "resnet": jn.resnet((2, 3, 1), 2, channels=(2,), depth=2, groups=2, activation=jn.silu),
    "resnet in a chain": jn.resnet((4, 1), 2, channels=(2, 4), depth=1, groups=1, recompute=True, repeat=False),
    "transformer": jn.transformer(4, depth=2, dropout=0.3, recompute=True, **TINY),
    "transformer, tied and rotary": jn.transformer(4, depth=1, tied=True, positions="rotary", repeat=False, **TINY),
    "encoder": jn.encoder(4, 2, depth=1, activation=jn.gelu, **TINY),
}
LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
every_net = pytest.mark.parametrize("name", NETS)


def batch(name, m=3):
    """x and labels of m examples."""
    classes = jnp.asarray(np.arange(m) % 2)
    if "transformer" in name or name == "encoder":
        x = drawn.ids(4, m, 3)
        return x, jnp.asarray(np.roll(x, -1, axis=1)) if "transformer" in name else classes
    shape = {"cnn": (4, 5, 1), "cnn of one axis with norms": (4, 2), "resnet": (2, 3, 1)}.get(name, (4, 1))
    return drawn.normal(m, *shape), classes


@every_net
def test_the_gradient_is_autodiffs_also_of_what_is_drawn(name, x64, key):
    net, (x, y) = jn.bind(NETS[name], key), batch(name)

    @jax.jit
    def both(params):
        _, by_hand = jn.value_and_grad(net, LOSS)(params, x, y)
        return by_hand, jax.grad(lambda params: LOSS.forward(net.apply(params, x), y).mean())(params)

    by_hand, by_autodiff = both(drawn.parameters(net))
    for ours, theirs in zip(jax.tree.leaves(by_hand), jax.tree.leaves(by_autodiff), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@every_net
def test_every_reading_and_the_ggn_diagonal_are_those_of_formed_gradients(name, x64):
    assert_readings_are_autodiffs(NETS[name], batch(name)[0])


@pytest.mark.parametrize("name", ["cnn", "transformer, tied and rotary"])
def test_in_mixed_precision_the_gradient_is_nearly_the_same(name):
    net, (x, y) = NETS[name], batch(name)
    params = drawn.parameters(net)

    @jax.jit
    def both(params, x, y):
        return [jn.value_and_grad(net, LOSS)(params, x, y)[1] for net in (jn.mixed_precision(net), net)]

    ours, theirs = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(g)]) for g in jax.device_get(both(params, x, y))
    )
    assert ours.dtype == np.float32
    assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(theirs)
    assert (ours != theirs).any()


@pytest.mark.parametrize("name", ["cnn", "transformer"])
@pytest.mark.usefixtures("optax_promotion")
def test_a_training_step_compiles_once(name, compilations):
    net, (x, y) = NETS[name], batch(name)
    params = drawn.parameters(net)
    weights = jax.tree.map(lambda sides: sides.is_weight, sides_of(net, params, x))
    optimizer = optax.adamw(1e-3, mask=weights)
    step, state = jn.make_step(net, LOSS, optimizer), jn.TrainState.create(params, optimizer)
    for _ in range(3):
        state, _ = step(state, x, y)
    assert compilations("step") == 1


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_the_gradient_is_lowered_for_cpu_cuda_and_tpu_with_any_batch_size(name):
    net = NETS[name]
    params = drawn.parameters(net)
    leaves, structure = jax.tree.flatten(params)

    def gradient(leaves, x, y):
        return jax.tree.leaves(jn.value_and_grad(net, LOSS)(jax.tree.unflatten(structure, leaves), x, y))

    (m,) = export.symbolic_shape("m")
    x, y = batch(name, 5)
    shapes = (jax.ShapeDtypeStruct((m, *array.shape[1:]), array.dtype) for array in (x, y))
    exported = export.export(jax.jit(gradient), platforms=["cpu", "cuda", "tpu"])(leaves, *shapes)
    actual = export.deserialize(exported.serialize()).call(leaves, x, y)
    for ours, theirs in zip(actual, jax.jit(gradient)(leaves, x, y), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cnn of one axis with norms", AxisType.Explicit),
        ("resnet in a chain", AxisType.Auto),
        ("transformer", AxisType.Auto),
        ("transformer", AxisType.Explicit),
    ],
)
def test_over_eight_devices_gradients_and_clipped_ones_are_those_of_one(name, kind, x64):
    """The batch is spread over one axis; over the other are vocabulary, channels, neurons, and with them the heads."""
    net, (x, y) = NETS[name], batch(name, 8)
    params = drawn.parameters(net)
    sides = jax.tree.leaves(sides_of(net, params, x))

    def gradients(params, x, y):
        clipped = jn.value_and_grad(net, LOSS, read=per_example.clipped(0.1))
        return jn.value_and_grad(net, LOSS)(params, x, y), clipped(params, x, y)[1]

    alone = jax.device_get((params, x, y))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        leaves = []
        for leaf, side in zip(jax.tree.leaves(alone[0]), sides, strict=True):
            spec = [None] * leaf.ndim
            if side.is_weight and leaf.shape[side.outputs] % 2 == 0:
                spec[side.outputs] = "model"
            leaves.append(jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*spec))))
        sharded = jax.tree.unflatten(jax.tree.structure(params), leaves)
        rows = NamedSharding(mesh, PartitionSpec("data"))
        actual = jax.device_get(jax.jit(gradients)(sharded, *jax.device_put(alone[1:], rows)))
    assert any("model" in leaf.sharding.spec for leaf in leaves)
    with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])):
        expected = jax.jit(gradients)(*alone)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@every_net
def test_summary_and_picture_look_inside(name):
    net, (x, _) = NETS[name], batch(name)
    params = drawn.parameters(net)
    table, picture = str(jn.summary(net, params, x)), jn.draw(net, params, x)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,}" in table
    assert ("repeat" in repr(net)) == ("repeat" in table) == ("times" in picture)
    leaf = "conv" if "net" in name.split()[0] or "cnn" in name else "attention"
    assert leaf in table
    assert leaf in picture
