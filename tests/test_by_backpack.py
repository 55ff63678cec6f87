"""Readings and curvature against BackPACK's, by the numbers that `by_backpack.py` has written down.

BackPACK reads of the mean loss, where ours are of each example's own: a gradient there has 1/m in it, a square 1/m^2.
"""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backpack_cases import CASES, DRAWN, LABELS, inputs, weights

import jaxnet as jn
from jaxnet import curvature, per_example

KEPT = json.loads((Path(__file__).parent / "by_backpack.json").read_text())
LOSS = jn.losses.softmax_cross_entropy_with_integer_labels


def layer(name, *arguments):
    """The call of jaxnet that BackPACK's module stands for."""
    *sizes, options = arguments if arguments and isinstance(arguments[-1], dict) else (*arguments, {})
    made = getattr(jn, name)
    return made if isinstance(made, jn.Layer) else made(*sizes, **options)


def at_drawn(z, _):
    """One column, of the labels that were drawn."""
    return LOSS.backward(z, jnp.asarray(DRAWN))[None]


def drawn(quantity):
    """The quantity of columns, of those that were drawn."""
    return lambda net, loss, *arguments, **options: quantity(net, at_drawn, *arguments, **options)


# Each with the power of 1/m that is in BackPACK's.
OF_GRADIENTS = {
    "BatchGrad": (per_example.each, 1),
    "BatchL2Grad": (per_example.squared_norms_by_leaf, 2),
    "SumGradSquared": (per_example.second_moment, 1),
    "Variance": (per_example.variance, 2),
}
DIAGONALS = {
    "DiagGGNExact": (curvature.ggn_diagonal, 0),
    "BatchDiagGGNExact": (curvature.ggn_diagonal_per_example, 1),
    "DiagGGNMC": (drawn(curvature.diagonal), 0),
    "DiagHessian": (curvature.hessian_diagonal, 0),
    "BatchDiagHessian": (curvature.hessian_diagonal_per_example, 1),
}
FACTORS = {"KFLR": curvature.kflr, "KFAC": drawn(curvature.kronecker), "KFRA": curvature.kfra}


def scaled(values, power, x):
    return [leaf / len(x) ** power for leaf in jax.tree.leaves(values)]


def factors(quantity, net, params, x, y):
    """BackPACK takes B of reduced positions, and A of expanded ones, as a sum over positions: neither of two ways."""
    places, signal = [], x
    for part, of_part in zip(net.made.args, params, strict=True):
        signal = part.apply(of_part, signal)
        places += [math.prod(signal.shape[1:-1])] * len(jax.tree.leaves(of_part))
    structure = jax.tree.structure(params)
    reduced, expanded = (
        structure.flatten_up_to(quantity(net, LOSS, params, x, y, positions=way)) for way in ("reduce", "expand")
    )
    each = zip(reduced, expanded, places, strict=True)
    return [factor for (B, *_), (_, *A), count in each for factor in (B, *(count * one for one in A))]


@pytest.mark.parametrize("name", CASES)
def test_readings_and_curvature_are_backpacks(name, x64):
    case = CASES[name]
    net = jn.chain(*(layer(*call) for call in case.layers))
    leaves, structure = jax.tree.flatten(jax.eval_shape(net.init, jax.random.key(0)))
    params = structure.unflatten([jnp.asarray(weights(leaf.shape, number)) for number, leaf in enumerate(leaves)])

    @jax.jit
    def of_all(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))

        def of(reading):
            if reading in FACTORS:
                return factors(FACTORS[reading], net, params, x, y)
            if reading in DIAGONALS:
                quantity, power = DIAGONALS[reading]
                return scaled(quantity(net, LOSS, params, x, y), power, x)
            quantity, power = OF_GRADIENTS[reading]
            return scaled(quantity(dparams), power, x)

        return {reading: of(reading) for reading in case.readings}

    actual = of_all(params, jnp.asarray(inputs(case)), jnp.asarray(LABELS))
    assert KEPT[name].keys() == set(case.readings)
    for reading, expected in KEPT[name].items():
        for ours, theirs in zip(actual[reading], map(np.asarray, expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max(), err_msg=reading)
