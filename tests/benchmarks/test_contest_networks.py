"""The networks of the contest: whatever builds them, the same curve; and as many operations as their products have."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.contest import contestants, curve, jax_grad, networks, problems
from jax.extend.core import jaxprs_in_params

TINY = {
    "cnn": {"sizes": (8, 1, 4, 6, 8, 5), "batch": 4},
    "resnet": {"sizes": (8, 3, 8, 16, 5), "batch": 4},
    # At the rate of its full size two steps would tell too little.
    "nanogpt": {"sizes": (11, 8, 2, 1, 6), "batch": 4, "learning_rate": 0.05},
    "gru": {"sizes": (5, 6, 4, 7), "batch": 4},
}
PEERS = ("haiku", "equinox", "flax", "torch")
ON_JAX = ("jaxnet", "jax.grad, scanned")


@pytest.fixture(autouse=True)
def as_their_users_have_jax():
    """Packages promote ranks and types."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def tiny(name):
    return problems.make(problems.NETS[name]._replace(steps=2, batches=2, **TINY[name]))


def deviation(contestant, problem):
    module, function = contestants.CONTESTANTS[contestant].start.split(":")
    one_pass = getattr(importlib.import_module(module), function)(problem)
    return curve.deviation(np.array([float(np.asarray(loss)) for loss in one_pass()]), problem)


@pytest.mark.parametrize("name", TINY)
def test_by_hand_and_by_jax_grad_of_the_plain_program_the_losses_are_the_references(name):
    problem = tiny(name)
    for contestant in ON_JAX:
        assert deviation(contestant, problem) <= curve.TOLERANCE, contestant


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("against", PEERS)
@pytest.mark.filterwarnings("ignore")
def test_each_package_that_is_installed_trains_the_same_network(name, against):
    theirs = {who: c for who, c in contestants.CONTESTANTS.items() if c.against == against}
    pytest.importorskip(next(iter(theirs.values())).package)
    problem = tiny(name)
    for contestant in theirs:
        # Its program takes long to compile; the model that it compiles is the same.
        if contestant != "torch.compile":
            assert deviation(contestant, problem) <= curve.TOLERANCE, contestant


def test_a_learning_rate_of_adamw_that_is_a_hundredth_off_is_another_curve():
    problem = tiny("nanogpt")
    faster = problem._replace(net=problem.net._replace(learning_rate=1.01 * problem.net.learning_rate))
    assert curve.deviation(jax_grad.losses(faster, 2), problem) > 2 * curve.TOLERANCE


@pytest.mark.parametrize("name", TINY)
def test_the_operations_of_a_network_are_those_of_the_products_of_its_plain_program(name):
    net = problems.NETS[name]
    problem = problems.make(net._replace(steps=1, batches=1))
    apply, params = networks.of(net).by_jax(problem)
    traced = jax.make_jaxpr(apply)(jax.tree.map(jnp.asarray, params), jnp.asarray(problem.x[0]))
    assert sum(networks.of(net).products(net)) == counted(traced.jaxpr)


def counted(jaxpr):
    """2 operations for each number that a product or a convolution gives, and each of what it adds up for it."""
    total = 0
    for equation in jaxpr.eqns:
        shapes, options = [v.aval.shape for v in equation.invars], equation.params
        if equation.primitive.name == "dot_general":
            (axes, _), _ = options["dimension_numbers"]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shapes[0][k] for k in axes)
        elif equation.primitive.name == "conv_general_dilated":
            # Weights (*window, i, o)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shapes[1][:-1])
        times = options["length"] if equation.primitive.name == "scan" else 1
        for part in jaxprs_in_params(options):
            total += times * counted(part)
    return total


def test_dense_networks_alone_are_scikit_learns():
    assert "scikit-learn" in contestants.of("64-64-10", ("scikit-learn",))
    assert not any("scikit-learn" in contestants.of(name, ("scikit-learn",)) for name in TINY)
