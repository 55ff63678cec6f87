"""Random networks, losses and batches, deterministic here; HYPOTHESIS_PROFILE=thorough tries many more."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

import jaxnet as jn

ACTIVATIONS = (jn.sigmoid, jn.tanh, jn.relu, jn.leaky_relu(), jn.softplus, jn.identity)
LOSSES = (
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "half_squared_error",
    "binary_cross_entropy",
)
# Rounding in units of the type, through up to six layers and sums of up to 33 terms, each in another order.
ROUNDINGS = 2000


@st.composite
def problems(draw):
    """Widths, activations, loss, batch, positions, dtype, seed."""
    depth = draw(st.integers(0, 6))
    widths = draw(st.lists(st.integers(1, 33), min_size=depth + 1, max_size=depth + 1))
    activations = draw(st.lists(st.sampled_from(range(len(ACTIVATIONS))), min_size=depth, max_size=depth))
    return (
        tuple(widths),
        tuple(activations),
        draw(st.sampled_from(LOSSES)),
        draw(st.integers(1, 17)),
        draw(st.sampled_from([(), (3,)])),
        draw(st.sampled_from(["float32", "float64"])),
        draw(st.integers(0, 2**31 - 1)),
    )


def built(problem):
    widths, activations, name, examples, positions, dtype, seed = problem
    layers = []
    for number, activation in enumerate(activations):
        layers += [jn.dense(widths[number], widths[number + 1]), ACTIVATIONS[activation]]
    if name == "binary_cross_entropy":
        layers.append(jn.sigmoid)
    net = jn.chain(*layers)

    # Drawn by NumPy, which has nothing to compile.
    rng = np.random.default_rng(seed)

    def normal(shape):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: normal(leaf.shape) / max(1, leaf.shape[-1]) ** 0.5, shapes)
    x = normal((examples, *positions, widths[0]))
    outputs = (examples, *positions, widths[-1])
    if name == "softmax_cross_entropy_with_integer_labels":
        y = jnp.asarray(rng.integers(0, widths[-1], outputs[:-1]))
    else:
        y = jnp.asarray(rng.dirichlet(np.ones(widths[-1]), outputs[:-1]), dtype)
    return net, getattr(jn.losses, name), params, x, y


def everything(net, loss):
    """Gradients by hand, by jax.grad, and of the batch rearranged, in one compilation."""
    ours = jn.value_and_grad(net, loss)

    def losses(params, x, y):
        return loss.forward(net.apply(params, x), y)

    def signals(params, x, y):
        z, cache = net.forward(params, x)
        dparams, dx = net.backward(params, cache, loss.backward(z, y))
        return jn.per_example.total(dparams), dx

    def each(params, x, y):
        return jax.vmap(lambda x, y: signals(params, x[None], y[None])[0])(x, y)

    @jax.jit
    def compute(params, x, y):
        total, dx = signals(params, x, y)
        order = jnp.arange(len(x))[::-1]
        return {
            "gradient": (ours(params, x, y)[1], jax.grad(lambda p: losses(p, x, y).mean())(params)),
            "input's gradient": (dx, jax.grad(lambda x: losses(params, x, y).sum())(x)),
            "sum over examples": (jax.tree.map(lambda g: g.sum(0), each(params, x, y)), total),
            "permuted signals": (signals(params, x[order], y[order])[1], dx[order]),
            "duplicated batch": (
                ours(params, jnp.concatenate([x, x]), jnp.concatenate([y, y]))[1],
                ours(params, x, y)[1],
            ),
        }

    return compute


@given(problems())
@example(((33,), (), "softmax_cross_entropy", 17, (), "float64", 0))
@example(((1, 1, 1, 1, 1, 1, 1), (0, 1, 2, 3, 4, 5), "half_squared_error", 1, (3,), "float64", 1))
def test_hand_equals_autodiff_and_examples_are_independent(problem):
    with jax.enable_x64(problem[5] == "float64"):
        net, loss, params, x, y = built(problem)
        eps = jnp.finfo(problem[5]).eps
        for name, (actual, expected) in everything(net, loss)(params, x, y).items():
            assert jax.tree.structure(actual) == jax.tree.structure(expected), name
            for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
                size = float(jnp.abs(b).max())
                # What a loss from a says where a rounds to 0 or 1 is not finite, by hand or otherwise.
                if np.isfinite(size):
                    np.testing.assert_allclose(a, b, rtol=0, atol=ROUNDINGS * eps * max(size, 1e-30), err_msg=name)
