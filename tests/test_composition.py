"""In research code: under every transformation, nested, differentiated through, rematerialised, in mixed precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import trees

import jaxnet as jn

# Sums of tens of terms in another order, at 1.1e-16 each.
EXACT = {"rtol": 1e-11, "atol": 1e-14}
assert_trees_equal = partial(trees.assert_trees_equal, **EXACT)


@pytest.fixture
def problem(x64, key):
    keys = jax.random.split(key, 3)
    net = jn.mlp((3, 4, 2), jn.tanh)
    x, y = jax.random.normal(keys[0], (6, 3)), jax.random.normal(keys[1], (6, 2))
    return net, jn.losses.half_squared_error, net.init(keys[2]), x, y


def mean_loss_of(net, loss, x, y):
    return lambda params: loss.forward(net.apply(params, x), y).mean()


def test_twice_in_one_program(problem):
    net, _, params, x, _ = problem

    def program(apply, params, x):
        return jnp.sin(apply(params, jnp.tanh(x)) ** 2).sum() + apply(params, x).prod()

    gradient = jax.grad(program, argnums=(1, 2))
    compiled = jax.jit(gradient, static_argnums=0)
    ours, expected = jn.with_hand_derived_vjp(net), compiled(net.apply, params, x)
    assert_trees_equal(gradient(ours, params, x), expected)
    assert_trees_equal(compiled(ours, params, x), expected)


def test_nested_in_itself(problem):
    net, _, params, x, _ = problem
    wide = jn.mlp((3, 5, 3), jn.sigmoid)
    wide_params = wide.init(jax.random.key(1))

    def program(inner, outer, wide_params, params):
        return outer(params, inner(wide_params, inner(wide_params, x))).sum()

    gradient = jax.jit(jax.grad(program, argnums=(2, 3)), static_argnums=(0, 1))
    ours = gradient(jn.with_hand_derived_vjp(wide), jn.with_hand_derived_vjp(net), wide_params, params)
    assert_trees_equal(ours, gradient(wide.apply, net.apply, wide_params, params))


def test_a_layer_inside_a_layer_of_ours(problem):
    """A user's layer whose forward calls a hand-derived function and whose backward recomputes its cache."""
    net, _, _, x, _ = problem
    apply = jn.with_hand_derived_vjp(net)

    def backward(params, x, dy):
        _, cache = net.forward(params, x)
        return net.backward(params, cache, dy)

    wrapped = jn.chain(jn.tanh, jn.Layer(net.init, lambda p, x: (apply(p, x), x), backward))
    jn.testing.check_layer(wrapped, x, jax.random.key(0))


def test_the_hessian_by_forward_over_our_gradient(problem):
    net, loss, params, x, y = problem
    ours = jn.value_and_grad(net, loss)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    def gradient(flat):
        return jax.flatten_util.ravel_pytree(ours(unflatten(flat), x, y)[1])[0]

    @jax.jit
    def hessians(flat):
        expected = jax.hessian(lambda flat: mean_loss_of(net, loss, x, y)(unflatten(flat)))(flat)
        return expected, jax.jacfwd(gradient)(flat), jax.jacrev(gradient)(flat)

    expected, *actual = hessians(flat)
    for ours in actual:
        np.testing.assert_allclose(ours, expected, **EXACT)


def test_reverse_over_the_attached_rule_gives_second_derivatives(problem):
    net, loss, params, x, y = problem
    apply = jn.with_hand_derived_vjp(net)

    def penalty(apply, params):
        gradient = jax.grad(lambda params: loss.forward(apply(params, x), y).mean())(params)
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient))

    gradient = jax.jit(jax.grad(penalty, argnums=1), static_argnums=0)
    assert_trees_equal(gradient(apply, params), gradient(net.apply, params))


def test_meta_learning_differentiates_through_updates(problem):
    """d(loss after three steps) / d(start, learning rate), through our gradient and through jax.grad's."""
    net, loss, params, x, y = problem

    def adapted_loss(gradient, params, rate):
        def step(params, _):
            return jax.tree.map(lambda w, dw: w - rate * dw, params, gradient(params)), None

        adapted, _ = jax.lax.scan(step, params, length=3)
        return mean_loss_of(net, loss, x[:3], y[:3])(adapted)

    ours = lambda params: jn.value_and_grad(net, loss)(params, x, y)[1]  # noqa: E731
    theirs = jax.grad(mean_loss_of(net, loss, x, y))
    meta = jax.jit(jax.grad(adapted_loss, argnums=(1, 2)), static_argnums=0)
    assert_trees_equal(meta(ours, params, 0.1), meta(theirs, params, 0.1))


def test_make_step_is_differentiated_through(problem):
    net, loss, params, x, y = problem
    optimizer = optax.sgd(0.1)
    step = jn.make_step(net, loss, optimizer)

    def after_a_step(params):
        stepped, _ = step(jn.TrainState.create(params, optimizer), x, y)
        return mean_loss_of(net, loss, x, y)(stepped.params)

    def by_hand(params):
        grads = jax.grad(mean_loss_of(net, loss, x, y))(params)
        return mean_loss_of(net, loss, x, y)(jax.tree.map(lambda w, dw: w - 0.1 * dw, params, grads))

    assert_trees_equal(*jax.jit(lambda params: [jax.grad(f)(params) for f in (after_a_step, by_hand)])(params))


def test_rematerialisation(problem):
    net, loss, params, x, y = problem
    ways = net.apply, jax.checkpoint(net.apply), jax.checkpoint(jn.with_hand_derived_vjp(net))

    @jax.jit
    def gradients(params):
        return [jax.grad(lambda params, f=f: loss.forward(f(params, x), y).mean())(params) for f in ways]

    expected, *actual = gradients(params)
    for ours in actual:
        assert_trees_equal(ours, expected)


def test_shapes_alone(problem):
    net, loss, params, x, y = problem
    shapes = jax.eval_shape(jn.value_and_grad(net, loss), *jax.eval_shape(lambda *tree: tree, params, x, y))
    value, grads = jax.jit(jn.value_and_grad(net, loss))(params, x, y)
    assert shapes[0].shape == value.shape
    assert jax.tree.map(lambda a: (a.shape, a.dtype), shapes[1]) == jax.tree.map(lambda a: (a.shape, a.dtype), grads)


def test_donated_parameters(problem):
    net, loss, params, x, y = problem
    expected = jax.jit(jax.value_and_grad(mean_loss_of(net, loss, x, y)))(params)

    def descend(params, x, y):
        value, grads = jn.value_and_grad(net, loss)(params, x, y)
        return value, jax.tree.map(lambda w, dw: w - dw, params, grads)

    given = jax.tree.map(jnp.copy, params)
    value, updated = jax.jit(descend, donate_argnums=0)(given, x, y)
    assert given[0].W.is_deleted()
    assert_trees_equal((value, updated), (expected[0], jax.tree.map(lambda w, dw: w - dw, params, expected[1])))


def test_debug_nans_finds_a_nan_and_else_nothing(problem):
    net, loss, params, x, y = problem
    with jax.debug_nans(True):
        jax.block_until_ready(jax.jit(jn.value_and_grad(net, loss))(params, x, y))
        with pytest.raises(FloatingPointError):
            jax.block_until_ready(jax.jit(jn.value_and_grad(net, loss))(params, x.at[0, 0].set(jnp.nan), y))


@pytest.mark.parametrize("enabled", [False, True])
def test_with_64_bit_types_and_without(enabled, key):
    with jax.enable_x64(enabled):
        net, loss = jn.mlp((3, 4, 2), jn.tanh), jn.losses.half_squared_error
        params, x = net.init(key), jax.random.normal(key, (6, 3))
        value, grads = jax.jit(jn.value_and_grad(net, loss))(params, x, x[:, :2])
        dtypes = {leaf.dtype for leaf in jax.tree.leaves((params, value, grads))}
        assert dtypes == {jnp.dtype("float64" if enabled else "float32")}


@pytest.mark.parametrize("through", ["value_and_grad", "jax.grad"])
def test_mixed_precision(through, key):
    """bfloat16 arithmetic, float32 parameters: the cast is part of what is differentiated."""
    net, loss = jn.mlp((3, 32, 2), jn.tanh), jn.losses.half_squared_error
    params, x = net.init(key), jax.random.normal(key, (64, 3))
    y = x[:, :2] * x[:, 1:]

    def cast(tree):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)

    if through == "value_and_grad":
        _, grads = jax.jit(jn.value_and_grad(net, loss))(cast(params), cast(x), cast(y))
        grads = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), grads)
    else:
        apply = jn.with_hand_derived_vjp(net)
        grads = jax.jit(jax.grad(lambda params: loss.forward(apply(cast(params), cast(x)), cast(y)).mean()))(params)
    reference = jax.jit(jax.grad(mean_loss_of(net, loss, x, y)))(params)
    autodiff = jax.jit(
        jax.grad(lambda p: loss.forward(net.apply(cast(p), cast(x)), cast(y)).mean().astype(jnp.float32))
    )(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}

    def errors(tree):
        off = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max() / jnp.abs(b).max()), tree, reference)
        return jax.tree.leaves(off)

    # bfloat16 has 8 bits: a unit is 2^-8. Hand may err by a few units beside what autodiff errs in the same type.
    for ours, theirs in zip(errors(grads), errors(autodiff), strict=True):
        assert ours <= 4 * (2**-8 + theirs)
