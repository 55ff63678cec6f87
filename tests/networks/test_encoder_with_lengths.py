"""An encoder of examples that are filled up: each is as it is by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet import per_example

LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
SIZES = {"width": 4, "heads": 2, "depth": 1, "length": 5}
OWN = [2, 4]
LENGTHS = jnp.array(OWN)
IDS = jnp.array([[1, 2, 0, 3], [3, 0, 2, 1]])
LABELS = jnp.array([0, 1])


def off_the_start(params):
    return jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)


def test_logits_and_readings_are_those_of_each_example_unpadded(x64, key):
    """By the encoder without lengths, differentiated by JAX."""
    net, plain = (jn.encoder(4, 3, positions="rotary", lengths=given, repeat=False, **SIZES) for given in (True, False))
    params = off_the_start(net.init(key))
    alone = jax.tree.unflatten(jax.tree.structure(plain.init(key)), jax.tree.leaves(params))

    def loss(params, ids, label):
        z = plain.apply(params, ids)
        return LOSS.forward(z, label).sum(), z

    @jax.jit
    def both(params, alone):
        z, cache = net.forward(params, (IDS, LENGTHS))
        dparams, dx = net.backward(params, cache, LOSS.backward(z, LABELS))
        assert dx == (None, None)
        examples = [(IDS[n : n + 1, :k], LABELS[n : n + 1]) for n, k in enumerate(OWN)]
        expected = [jax.grad(loss, has_aux=True)(alone, *example) for example in examples]
        ours = {"each": per_example.each(dparams), "norms": per_example.norms(dparams), "z": z}
        return ours | {"clipped": per_example.clipped_mean(dparams, 0.5)}, expected

    actual, of_each = jax.device_get(both(params, alone))
    each = [np.stack(rows) for rows in zip(*(jax.tree.leaves(grads) for grads, _ in of_each), strict=True)]
    norms = np.sqrt(sum((leaf.reshape(len(IDS), -1) ** 2).sum(1) for leaf in each))
    kept = np.minimum(1, 0.5 / norms) / len(IDS)
    expected = {
        "each": each,
        "norms": norms,
        "z": np.concatenate([z for _, z in of_each]),
        "clipped": [np.tensordot(kept, leaf, 1) for leaf in each],
    }
    for name, trees in expected.items():
        for ours, theirs in zip(jax.tree.leaves(actual[name]), jax.tree.leaves(trees), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-15 + 1e-12 * np.abs(theirs).max(), err_msg=name)


def test_they_keep_the_contract(key):
    net = jn.encoder(4, 3, lengths=True, repeat=False, **SIZES)
    jn.testing.check_layer(net, (IDS, LENGTHS), key, short_types=())
    jn.testing.check_layer(jn.global_mean, (jnp.cos(jnp.arange(24.0)).reshape(3, 4, 2), jnp.array([2, 4, 0])), key)


def test_a_mean_over_an_examples_own_positions_sees_no_others():
    x = jnp.full((3, 4, 2), jnp.nan).at[0, :2].set(jnp.array([[1.0, 2.0], [3.0, 6.0]])).at[1].set(5)
    y, cache = jn.global_mean.forward((), (x, jnp.array([2, 4, 0])))
    np.testing.assert_array_equal(y, [[2, 4], [5, 5], [0, 0]])
    _, (dx, of_lengths) = jn.global_mean.backward((), cache, jnp.ones((3, 2)))
    assert of_lengths is None
    np.testing.assert_array_equal(dx[..., 0], [[0.5, 0.5, 0, 0], [0.25] * 4, [0] * 4])


@pytest.mark.usefixtures("without_shape_annotations")
def test_lengths_of_other_shapes_are_refused():
    for x, lengths in ((jnp.ones((3, 4, 2)), jnp.array([1, 2])), (jnp.ones((3, 2)), jnp.array([1, 2, 3]))):
        with pytest.raises(ValueError) as error:
            jn.global_mean.forward((), (x, lengths))
        assert str(error.value) == (
            f"global_mean: expected x (m, t, channels) beside lengths (m,), got {x.shape} and {lengths.shape}"
        )
