"""A combinator that the library has never heard of: every walk goes through it, and no other file knows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_layers import masked, twice

import jaxnet as jn
from jaxnet import curvature, feedback, per_example
from jaxnet.notes import in_order, with_notes

LOSS = jn.losses.half_squared_error


def sum_forward(layers, params, x):
    ys, caches = zip(*(layer.forward(p, x) for layer, p in zip(layers, params, strict=True)), strict=True)
    return sum(ys[1:], start=ys[0]), caches


def sum_backward(layers, params, caches, dy):
    three = zip(layers, params, caches, strict=True)
    dparams, dxs = zip(*(layer.backward(p, cache, dy) for layer, p, cache in three), strict=True)
    return dparams, sum(dxs[1:], start=dxs[0])


def sum_of(*layers):
    functions = jn.chain(*layers).init, partial(sum_forward, layers), partial(sum_backward, layers)
    return jn.Layer(*functions, made=partial(sum_of, *layers))


FORK = sum_of(jn.chain(jn.dense(4, 4), jn.tanh), jn.residual(jn.dense(4, 4)), jn.sigmoid)
WRAPS = {"alone": lambda layer: layer, "repeat of recompute": lambda layer: jn.repeat(jn.recompute(layer), 2)}
WRAPPED = {name: wrap(FORK) for name, wrap in WRAPS.items()}
wrapped = pytest.mark.parametrize("name", WRAPPED)


def assert_close(actual, expected, tolerance=1e-12):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.fixture
def data(x64, key):
    return jax.random.normal(jax.random.fold_in(key, 1), (5, 4)), jax.random.normal(jax.random.fold_in(key, 2), (5, 3))


@wrapped
def test_gradient_readings_and_curvature_go_through(name, data, key):
    x, y = data
    net = jn.chain(WRAPPED[name], jn.tanh, jn.dense(4, 3))
    flat, unflatten = jax.flatten_util.ravel_pytree(net.init(key))

    def losses(flat):
        return LOSS.forward(net.apply(unflatten(flat), x), y)

    def ours(flat):
        params = unflatten(flat)
        return {
            "gradient": jn.value_and_grad(net, LOSS)(params, x, y)[1],
            "clipped": jn.value_and_grad(net, LOSS, read=per_example.clipped(0.5))(params, x, y)[1],
            "GGN": curvature.ggn_diagonal(net, LOSS, params, x, y),
            "Hessian": curvature.hessian_diagonal(net, LOSS, params, x, y),
        }

    def theirs(flat):
        each = jax.jacrev(losses)(flat)
        norms = jnp.linalg.norm(each, axis=1, keepdims=True)
        J = jax.jacrev(lambda flat: net.apply(unflatten(flat), x))(flat)
        return {
            "gradient": each.mean(0),
            "clipped": (each * jnp.minimum(1, 0.5 / norms)).mean(0),
            "GGN": (J**2).sum(1).mean(0),
            "Hessian": jnp.diag(jax.hessian(lambda flat: losses(flat).mean())(flat)),
        }

    actual, expected = jax.jit(lambda flat: (ours(flat), theirs(flat)))(flat)
    for quantity, value in expected.items():
        assert_close(actual[quantity], unflatten(value))


@wrapped
def test_mixed_precision_goes_through(name, data, key):
    x, y = data
    net = jn.chain(WRAPPED[name], jn.dense(4, 3))
    short = jn.mixed_precision(net, jnp.float32)
    params = net.init(key)
    assert {leaf.dtype for leaf in jax.tree.leaves(short.forward(params, x)[1][-1])} == {jnp.dtype("float32")}
    actual, expected = (jax.jit(jn.value_and_grad(layer, LOSS))(params, x, y) for layer in (short, net))
    assert_close(actual, expected, 1e-5)
    assert actual[0] != expected[0]


@wrapped
def test_kfra_refuses_where_its_paths_meet(name, data, key):
    x, y = data
    net = jn.chain(WRAPPED[name], jn.dense(4, 3))
    with pytest.raises(ValueError, match=r"^curvature\.kfra: expected a network without paths that meet, as after res"):
        curvature.kfra(net, LOSS, net.init(key), x, y)


@wrapped
def test_bind_goes_through(name, data, key):
    x, y = data
    fork = sum_of(jn.chain(jn.dense(4, 4), masked(0.5)), jn.chain(jn.tanh, masked(0.5)))
    net = jn.chain(WRAPS[name](fork), jn.dense(4, 3))
    params, bound = net.init(key), jn.bind(net, key)
    expected = jax.jit(jax.value_and_grad(lambda params: LOSS.forward(bound.apply(params, x), y).mean()))(params)
    assert_close(jax.jit(jn.value_and_grad(bound, LOSS))(params, x, y), expected)
    assert not np.array_equal(bound.apply(params, x), net.apply(params, x))


def test_parameters_that_are_used_twice_have_no_diagonal_of_the_sum(data, key):
    """Added, the diagonals of the two uses would be far from the Hessian's, which has what is between them."""
    x, _ = data
    for net in (twice(jn.dense(4, 4), jn.tanh), jn.repeat(twice(jn.dense(4, 4), jn.tanh), 2)):
        params = net.init(key)
        by_autodiff = jax.value_and_grad(lambda params, net=net: LOSS.forward(net.apply(params, x), x).mean())
        assert_close(jax.jit(jn.value_and_grad(net, LOSS))(params, x, x), jax.jit(by_autodiff)(params))
        for quantity, instead in (("hessian_diagonal", "ggn_diagonal"), ("kfra", "kflr")):
            with pytest.raises(ValueError) as error:
                getattr(curvature, quantity)(net, LOSS, params, x, x)
            assert str(error.value) == (
                f"curvature.{quantity}: expected parameters that are used once, got some that are used twice; "
                f"use {instead}"
            )


def twins(name):
    """The network, and the same with this library's own `fan_out` in the place of the new combinator."""
    return (jn.chain(jn.dense(4, 4), WRAPS[name](fork), jn.dense(4, 3)) for fork in (FORK, jn.fan_out(*FORK.made.args)))


@wrapped
def test_direct_feedback_goes_through(name, data, key):
    x, y = data
    ours, known = twins(name)
    params = ours.init(key)
    weights = feedback.direct_weights(ours, params, x, key)
    # The branches, their rounds and the last layer have weights of their own; the first layer has none.
    assert [B.shape for B in jax.tree.leaves(weights)] == [*[(3, 4) if name == "alone" else (2, 3, 4)] * 2, (3, 4)]

    @jax.jit
    def gradients(params):
        ways = [(net, feedback.direct(net, weights)) for net in (ours, known)] + [(ours, None)]
        return [jn.value_and_grad(net, LOSS, backward=way)(params, x, y)[1] for net, way in ways]

    grads, of_known, plain = gradients(params)
    assert_close(grads, of_known)
    assert not np.allclose(grads[0].W, plain[0].W, rtol=0.1)


@wrapped
def test_the_summary_and_the_picture_look_inside(name, data, key):
    x, _ = data
    ours, known = twins(name)
    params = ours.init(key)
    table, of_known = (str(jn.summary(net, params, x)) for net in (ours, known))
    assert table.replace("sum_of", "fan_out").split() == of_known.split()
    assert table.count("dense") == 4
    picture = jn.draw(ours, params, x)
    assert picture == jn.draw(known, params, x)
    assert ("repeat, 2 times" in picture, "recompute" in picture) == ("repeat" in name, "recompute" in name)


@wrapped
def test_layers_inside_note_what_they_see(name, data, key):
    x, y = data
    net, _ = twins(name)
    params = net.init(key)
    noting = with_notes(
        net, ahead=lambda y: jnp.isfinite(y).all(), back=lambda layer, params, cache, dy: jnp.abs(dy).max()
    )
    _, cache = noting.forward(params, x)
    note, _ = noting.backward(params, cache, y)
    noted = list(in_order(net, note))
    rounds = 1 if name == "alone" else 2
    assert [one.place.layer.name for one in noted].count("sigmoid") == rounds
    assert all(one.ahead for one in noted)
    # In the last round all branches hear the same; in the first round what came back through it.
    heard = [float(one.back) for one in noted if one.place.layer.name in ("sigmoid", "tanh")]
    assert heard[-1] == pytest.approx(float(jnp.abs(y @ params[2].W).max()), rel=1e-12)
    assert len(set(heard)) == rounds
