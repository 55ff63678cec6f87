"""The fit of the rule by which gradients are formed, on costs that are made up, and the command on a tiny grid."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import forming
from benchmarks.forming import Point
from benchmarks.program import BenchmarkConfig, benchmark

from jaxnet.factored.worth import BATCHED, READ, worth_forming

pytestmark = pytest.mark.usefixtures("optax_promotion")
SIZES = [(t, o, i) for t in (2, 8, 32, 128) for o, i in ((16, 16), (64, 64), (64, 256))]


def made_up(b, c):
    """Costs by which the rule of b and c is right everywhere."""
    return [
        Point(t, o, i, 4, unformed=2.0 * t**2 * (o + i) + o * i, formed=(b + c * t) * o * i + o * i)
        for t, o, i in SIZES
    ]


def test_the_rule_that_made_the_costs_is_found():
    fit = forming.fitted(made_up(6, 0.5))
    assert (fit.hits, fit.excess) == (1, 0)
    assert [p.forms(fit.b, fit.c) for p in made_up(6, 0.5)] == [p.forms(6, 0.5) for p in made_up(6, 0.5)]


def test_a_rule_is_told_what_its_mistakes_cost():
    points = [Point(4, 8, 8, 2, unformed=1.0, formed=2.0), Point(4, 8, 8, 2, unformed=2.0, formed=1.0)]
    assert forming.judged(points, 0, 0) == forming.Fit(0, 0, 0.5, pytest.approx(2**0.5 - 1))
    assert forming.judged(points, 1e9, 0).hits == 0.5


def test_the_benchmarks_rule_is_the_librarys():
    for t, o, i in SIZES:
        assert Point(t, o, i, 1, 1.0, 1.0).forms(READ, BATCHED) == worth_forming(t, o, i)


def test_both_ways_give_the_same_clipped_sum():
    dz, a = (jnp.asarray(np.random.default_rng(0).standard_normal((3, 5, size), np.float32)) for size in (4, 6))
    np.testing.assert_allclose(forming.formed(dz, a), forming.unformed(dz, a), rtol=1e-5, atol=1e-5)
    each = np.einsum("mto,mti->moi", dz, a)
    factors = np.minimum(1, 1 / np.linalg.norm(each, axis=(1, 2)))
    np.testing.assert_allclose(forming.formed(dz, a), np.tensordot(factors, each, 1), rtol=1e-5, atol=1e-5)


def test_forming_measures_a_grid_and_tells_of_the_rules(tmp_path, monkeypatch, capsys):
    for name, value in {"TIMES": (2, 64), "SIDES": ((4, 6),), "EXAMPLES": (2,), "LEAST_SECONDS": 1e-9}.items():
        monkeypatch.setattr(forming, name, value)
    assert forming.grid() == [(2, 4, 6, 2), (64, 4, 6, 2)]
    monkeypatch.setattr(forming, "MOST", 24 * 2)
    assert forming.grid() == [(2, 4, 6, 2)]
    benchmark(BenchmarkConfig("forming", out=str(tmp_path / "out"), seeds=1))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (point,) = results["points"]
    assert (point["times"], point["outputs"], point["inputs"], point["examples"]) == (2, 4, 6, 2)
    assert point["unformed"] > 0 < point["formed"]
    assert (results["present"]["b"], results["present"]["c"]) == (READ, BATCHED)
    printed = capsys.readouterr().out
    assert re.search(r"^T +o +i +m +unformed ms +formed ms +faster +the rule$", printed, re.MULTILINE)
    assert re.search(r"^the best +b \S+, c \S+: hits 100%, takes 0\.0% longer than the faster$", printed, re.MULTILINE)
