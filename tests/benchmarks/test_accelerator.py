"""What is measured on an accelerator, on problems so small that a CPU has done with them at once."""

import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import accelerator
from benchmarks.accelerated import measured
from benchmarks.accelerated.problems import Images, Tokens, operations

from jaxnet.experiment.console import packages

PROBLEMS = {
    "images": Images(batch=2, side=8, channels=(4, 8), hidden=8),
    "tokens": Tokens(batch=2, vocabulary=16, width=8, heads=2, depth=1, length=4),
}


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Rank promotion, which the tests refuse, is what programs with JAX alone are written with."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("unit", PROBLEMS)
def test_what_jax_grad_is_asked_for_is_the_same_network(unit):
    problem = PROBLEMS[unit]
    net, (x, _) = problem.net(), problem.batch_of(jax.random.key(0))
    params = jax.jit(net.init)(jax.random.key(1))
    found, expected = jax.jit(lambda params, x: (problem.plain()(params, x), net.apply(params, x)))(params, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_all_ways_are_measured_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(accelerator, "train", lambda config: {"test_accuracy": 1.0})
    for name, value in {"WIDTH": 8, "BATCH": 4, "LAYERS": 1}.items():
        monkeypatch.setattr(accelerator, name, value)
    monkeypatch.setattr(measured, "REPEATS", 1)
    monkeypatch.setattr(measured, "PROBLEMS", PROBLEMS)
    monkeypatch.setattr(packages, "is_there", lambda name: False)
    accelerator.run(tmp_path, seeds=1)
    found = json.loads((tmp_path / "results.json").read_text())
    peak = found["measured"]["bfloat16"]["peak"]
    for unit, problem in PROBLEMS.items():
        of_problem = found["gradients"][unit]
        assert of_problem.pop("flax") == of_problem.pop("torch.compile") == "not installed"
        assert of_problem.keys() == {"by hand", "by hand, clipped", "jax.grad"}
        for of_one in of_problem.values():
            np.testing.assert_allclose(of_one["a_second"], problem.units() / of_one["seconds"])
            np.testing.assert_allclose(of_one["share"], operations(problem) / of_one["seconds"] / peak)
    told = capsys.readouterr().out
    for unit in PROBLEMS:
        assert re.search(
            rf"^gradient in bfloat16 +{unit} a second +share of the peak +time\nby hand ", told, re.MULTILINE
        )
    assert re.search(r"^flax +not installed", told, re.MULTILINE)


def test_what_a_package_cannot_is_told_in_its_place(monkeypatch):
    def fails(*arguments):
        raise RuntimeError("no kernel for it\nand more")

    monkeypatch.setattr(measured, "programs", lambda *arguments: {measured.OURS: lambda: jnp.zeros(())})
    monkeypatch.setattr(measured, "_by_flax", fails)
    found = measured.measure(PROBLEMS["images"], 1.0, 1)
    assert found["flax"] == "failed: no kernel for it"


def numbers(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("unit", PROBLEMS)
def test_flax_has_as_many_parameters(unit):
    pytest.importorskip("flax")
    from benchmarks.accelerated import by_flax

    problem = PROBLEMS[unit]
    value, grads = by_flax.gradient(problem, *problem.batch_of(jax.random.key(0)))()
    assert np.isfinite(value)
    learnt = jax.eval_shape(problem.net().init, jax.random.key(0))
    # Those of random numbers are none that it learns.
    assert numbers(grads) == numbers(learnt)


@pytest.mark.parametrize("unit", PROBLEMS)
def test_pytorch_has_as_many_parameters(unit):
    pytest.importorskip("torch")
    from benchmarks.accelerated import by_torch

    problem = PROBLEMS[unit]
    learnt = jax.eval_shape(problem.net().init, jax.random.key(0))
    assert sum(leaf.numel() for leaf in by_torch.network(problem).parameters()) == numbers(learnt)
    once = partial(by_torch.gradient, problem, *problem.batch_of(jax.random.key(0)), "cpu", lambda function: function)()
    assert np.isfinite(once().item())
