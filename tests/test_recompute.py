"""A layer that keeps its input alone: the same numbers in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet import curvature

BLOCK = jn.residual(jn.chain(jn.dense(4, 6), jn.tanh, jn.dense(6, 4)))
LOSS = jn.losses.half_squared_error


def equal(actual, expected):
    return jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-13, atol=1e-15), actual, expected))


def test_the_oracle_agrees(key):
    jn.testing.check_layer(jn.recompute(BLOCK), jax.random.normal(key, (5, 4)), key)


def test_the_input_alone_is_kept_and_the_parameters_by_reference(key):
    params, x = BLOCK.init(key), jnp.ones((5, 4))
    _, cache = jn.recompute(BLOCK).forward(params, x)
    held = [x, *jax.tree.leaves(params)]
    assert all(any(array is other for other in held) for array in jax.tree.leaves(cache))


def lowered_gradient(net, width, key):
    x = jnp.ones((512, width))
    return jax.jit(jn.value_and_grad(net, LOSS)).lower(jax.eval_shape(net.init, key), x, x)


def test_the_compiled_gradient_takes_less_memory(key):
    """16 blocks keep 16 inputs, 64 wide, in place of those and of 16 times 256 hidden numbers."""
    block = jn.residual(jn.chain(jn.dense(64, 256), jn.tanh, jn.dense(256, 64)))
    less, more = (
        lowered_gradient(jn.repeat(layer, 16), 64, key).compile().memory_analysis().temp_size_in_bytes
        for layer in (jn.recompute(block), block)
    )
    assert less < more / 2


def test_the_gradient_computes_the_hidden_units_of_each_block_again(key):
    def products(block):
        return lowered_gradient(jn.chain(*[block] * 3), 4, key).as_text().count("dot_general")

    # Of a block's two products the second is in no cache, and is left out.
    assert products(jn.recompute(BLOCK)) == products(BLOCK) + 3
    # Without it, a compiler takes what forward has computed, and keeps it.
    assert "optimization_barrier" in lowered_gradient(jn.recompute(BLOCK), 4, key).as_text()


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: jn.repeat(net, 3)], ids=["once", "repeated"])
def test_what_is_computed_again_has_the_weights_of_forward(wrap, x64, key):
    """Feedback alignment sends back through other weights; the hidden units are still those of forward."""
    net, plain = wrap(jn.recompute(BLOCK)), wrap(BLOCK)
    params, others = plain.init(key), plain.init(jax.random.fold_in(key, 1))
    x, y = (jax.random.normal(jax.random.fold_in(key, k), (5, 4)) for k in (2, 3))

    @jax.jit
    def both(params, others):
        ways = [(layer, jn.feedback.alignment(layer, others)) for layer in (net, plain)]
        return [jn.value_and_grad(layer, LOSS, backward=way)(params, x, y) for layer, way in ways]

    assert equal(*both(params, others))


def test_curvature_sees_through(x64, key):
    net, plain = jn.chain(jn.recompute(BLOCK), jn.dense(4, 2)), jn.chain(BLOCK, jn.dense(4, 2))
    dense = jn.chain(jn.dense(4, 3), jn.tanh)
    x = jax.random.normal(key, (5, 4))

    def pairs(params, of_dense):
        for quantity in (curvature.hessian_diagonal, curvature.kflr):
            yield [quantity(layer, LOSS, params, x, x[:, :2]) for layer in (net, plain)]
        yield [curvature.kfra(layer, LOSS, of_dense, x, x[:, :3]) for layer in (jn.recompute(dense), dense)]

    for ours, theirs in jax.jit(lambda *params: list(pairs(*params)))(plain.init(key), dense.init(key)):
        assert equal(ours, theirs)


def test_forward_mode_goes_through(x64, key):
    net, params, x = jn.recompute(BLOCK), BLOCK.init(key), jax.random.normal(key, (5, 4))
    product = curvature.hessian_vector_product
    both = jax.jit(lambda params: [product(layer, LOSS, params, x, jnp.cos(x), params) for layer in (net, BLOCK)])
    assert equal(*both(params))
