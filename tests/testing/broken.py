"""Layers and losses with a mistake, each with a part of the message that finds it."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet as jn

EXAMPLES, INPUTS, OUTPUTS = 5, 3, 4
DENSE = jn.dense(INPUTS, OUTPUTS)


def broken_dense(mistake):
    """dense(3, 4) whose backward's (dparams, dx) went through `mistake(dparams, dx, params, x, dz)`."""
    return DENSE._replace(backward=lambda p, x, dz: mistake(*DENSE.backward(p, x, dz), p, x, dz))


def in_one_of_ten_thousand(dparams, dx, p, x, dz):
    return dparams, dx.reshape(-1).at[7777].multiply(1.01).reshape(dx.shape)


def refuses_tracers(dparams, dx, p, x, dz):
    return dparams, dx * float(np.asarray(x).max() > -jnp.inf)


def breaks_under_vmap(dparams, dx, p, x, dz):
    """Divides by the largest of the whole array and multiplies by the largest of each mapped one."""
    largest = jax.lax.stop_gradient(jnp.abs(dz).max())
    batched = jax.custom_batching.custom_vmap(lambda value: value)
    batched.def_vmap(lambda size, mapped, value: (jnp.broadcast_to(value.max(), value.shape), mapped[0]))
    return dparams, dx / largest * batched(largest)


# Each with a part of the message that finds it.
BROKEN_LAYERS = {
    "dropped term": (broken_dense(lambda dp, dx, p, x, dz: (dp, dx - dz[:, :1] * p.W[:1])), "eager:\n  dx"),
    "flipped sign": (broken_dense(lambda dp, dx, p, x, dz: (dp, -dx)), "; the sign is flipped"),
    "factor 2": (broken_dense(lambda dp, dx, p, x, dz: (dp._replace(b=jn.Each(2 * dz)), dx)), "; off by the factor 2 "),
    "factor 1/m": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(W=jn.Outer(dz / EXAMPLES, x)), dx)),
        "; off by a factor of 1/5, the length of an axis: a mean for a sum?",
    ),
    "factor m": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(W=jn.Outer(-dz * EXAMPLES, x)), dx)),
        "; off by a factor of -5, the length of an axis: a sum for a mean?",
    ),
    "scale of 1%": (broken_dense(lambda dp, dx, p, x, dz: (dp, 1.01 * dx)), "; off by the factor 1.01 everywhere"),
    "missing bias gradient": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(b=jn.Each(0 * dz)), dx)),
        "dparams.b[0]: by hand 0, expected ",
    ),
    "bias gradient left out": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(b=None), dx)),
        "dparams.b is None; every parameter has gradients: Each(g)",
    ),
    "zeros for everything": (
        broken_dense(lambda dp, dx, p, x, dz: (jax.tree.map(jnp.zeros_like, dp), 0 * dx)),
        "; all zeros by hand",
    ),
    "wrong transpose": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(W=jn.Outer(x, dz)), dx)),
        "dparams.W: expected float64(4, 3), got float64(3, 4): transposed?",
    ),
    "examples mixed up": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(W=jn.Outer(dz[::-1], x[::-1])), dx)),
        "dparams.W",
    ),
    "right only for ones as cotangent": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, jnp.ones_like(dz) @ p.W)),
        "eager:\n  dx",
    ),
    "right only while the bias is 0": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx + (p.b != 0).any().astype(dx.dtype))),
        "eager:\n  dx",
    ),
    "right only for positive inputs": (
        jn.relu._replace(backward=lambda p, a, da: (p, da)),
        "eager:\n  dx",
    ),
    "derivative at a instead of z": (
        jn.softplus._replace(backward=lambda p, a, da: (p, da * jax.nn.sigmoid(a))),
        "eager:\n  dx",
    ),
    "derivative at z instead of a": (
        jn.tanh._replace(forward=lambda p, z: (jnp.tanh(z), z), backward=lambda p, z, da: (p, da * (1 - z * z))),
        "eager:\n  dx",
    ),
    "wrong dtype": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx.astype(jnp.float32))),
        "dx: expected float64(5, 3), got float32(5, 3)",
    ),
    "wrong shape": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx[:, :2])),
        "dx: expected float64(5, 3), got float64(5, 2)",
    ),
    "wrong structure": (broken_dense(lambda dp, dx, p, x, dz: (tuple(dp), dx)), "dparams: expected the structure"),
    "right in float64 only": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx * (1 + (dx.dtype == jnp.float32) * 1e-4))),
        "float32, jitted:\n  dx",
    ),
    "wrong in bfloat16": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx * (1 + (dx.dtype == jnp.bfloat16) * 0.25))),
        "bfloat16, jitted:\n  dx",
    ),
    "clipped cotangent": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, jnp.clip(dz, -100, 100) @ p.W)),
        "linearity in the cotangent:\n  dx",
    ),
    "eager only": (broken_dense(refuses_tracers), "raised TracerArrayConversionError"),
    "broken under vmap": (broken_dense(breaks_under_vmap), "float64, vmap:\n  dx"),
    "infinite slope far out": (
        jn.sigmoid._replace(
            forward=lambda p, z: (jax.nn.sigmoid(z), z),
            backward=lambda p, z, da: (p, da * jnp.exp(-z) / (1 + jnp.exp(-z)) ** 2),
        ),
        "arguments times 100:\n  dx",
    ),
    "not a number": (broken_dense(lambda dp, dx, p, x, dz: (dp, dx * jnp.nan)), "dx[0, 0]: by hand nan"),
    "raises": (broken_dense(lambda dp, dx, p, x, dz: dx.no_such_thing), "eager: raised AttributeError: "),
    "no pair": (
        broken_dense(lambda dp, dx, p, x, dz: dx),
        "backward gives an array of shape (5, 3), expected (dparams, dx), in the order of jax.vjp(f, params, x)",
    ),
}


LOSS = jn.losses.sigmoid_binary_cross_entropy
BROKEN_LOSSES = {
    "1/m": (LOSS._replace(backward=lambda z, y: LOSS.backward(z, y) / len(z)), "off by a factor of 1/5"),
    "sign": (LOSS._replace(backward=lambda z, y: -LOSS.backward(z, y)), "the sign is flipped"),
    "zeros": (LOSS._replace(backward=lambda z, y: 0 * z), "all zeros by hand"),
    "mean over outputs": (LOSS._replace(forward=lambda z, y: LOSS.forward(z, y) / z.shape[1]), "a sum for a mean?"),
    "a scalar": (LOSS._replace(forward=lambda z, y: LOSS.forward(z, y).sum()), "forward gives shape (), expected (5,)"),
    "root not taken": (LOSS._replace(root_hessian=lambda z, y: LOSS.root_hessian(z, y) ** 2), "hessian["),
    "naive logarithm": (
        LOSS._replace(
            backward=lambda z, y: jnp.exp(z) / (1 + jnp.exp(z)) - y,
        ),
        "arguments times 100",
    ),
    "samples of one class": (LOSS._replace(sample=lambda key, z: jnp.ones_like(z)), "standard errors from 0"),
    "samples of another shape": (
        LOSS._replace(sample=lambda key, z: LOSS.sample(key, z)[:, 0]),
        "sample gives float64(5,), expected float64(5, 3) as y is",
    ),
    "samples of integers": (
        LOSS._replace(sample=lambda key, z: LOSS.sample(key, z).astype(int)),
        "sample gives int64(5, 3), expected float64(5, 3) as y is",
    ),
}
