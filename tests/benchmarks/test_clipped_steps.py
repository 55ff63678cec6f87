"""Clipped steps beside other packages', on networks so small that they end at once; the packages need not be there."""

import importlib.util
import json
import re

import jax
import numpy as np
import pytest
from benchmarks import readings
from benchmarks.clipping import agreement, beside, by_jax, largest, networks
from benchmarks.clipping.methods import METHODS, OUR_PLAIN, OURS, PLAIN, asked
from benchmarks.clipping.networks import SMALL, Net, Problem
from benchmarks.clipping.worker import Answers
from benchmarks.clipping.workers import started
from benchmarks.contest.process import Died
from benchmarks.program import BenchmarkConfig, benchmark

from jaxnet.experiment.console.errors import BadInput, Failure

pytestmark = pytest.mark.usefixtures("optax_promotion")
TINY = Net("dense", {"layers": (6, 5, 4)}, (3,))
MAPPED = "vmap(jax.grad), clipped"


class Here:
    """A process's answers, without the process."""

    def __init__(self, method, problem):
        self.answers = Answers(method.start, json.dumps(problem._asdict()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, line):
        return json.loads(json.dumps(self.answers.answer(line)))


class Dead(Here):
    def ask(self, line):
        raise Died("no such layer")


@pytest.fixture
def here(monkeypatch):
    """All in this process; one network; no waiting."""
    for module in (agreement, beside, largest):
        monkeypatch.setattr(module, "started", Here)
    monkeypatch.setattr(networks, "NETS", {"tiny": TINY})
    monkeypatch.setattr(beside, "LEAST_SECONDS", 1e-9)
    monkeypatch.setattr(beside, "PAUSE", 0)


def test_per_example_measures_a_clipped_step_beside_a_plain_one(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(readings, "PROBLEMS", {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("opacus", "jax_privacy") else name)
    benchmark(BenchmarkConfig("per-example", out=str(tmp_path / "out"), seeds=1))
    clipped = json.loads((tmp_path / "out" / "results.json").read_text())["clipped"]
    assert (clipped["absent"], clipped["refused"]) == (["jax-privacy", "opacus"], {"dense": {}})
    costs = clipped["networks"]["tiny"]["3"]
    assert list(costs) == [OUR_PLAIN, OURS, "jaxnet, clipped, budget 0", PLAIN, MAPPED]
    assert all(cost["seconds"]["median"] > 0 < cost["bytes"] and cost["operations"] > 0 for cost in costs.values())
    printed = capsys.readouterr().out
    assert "left out   jax-privacy: not installed\nleft out   opacus: not installed\n" in printed
    head = r"tiny, batch 3\nstep +ms +processor ms +over plain +over ours +MB +over plain +operations\n"
    assert re.search(head + r"jaxnet, plain +\S+ +\S+ +1\.00 +1\.00 +0\.0 +1\.00 +1\.00\n", printed)


def test_kinds_of_networks_are_those_that_are_asked_for(here, tmp_path, monkeypatch):
    monkeypatch.setattr(readings, "PROBLEMS", {"of dense layers": None})
    benchmark(BenchmarkConfig("per-example", out=str(tmp_path / "out"), seeds=1, kinds=("cnn", "gru")))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["problems"], results["clipped"]["networks"]) == ({}, {})


def test_a_clipped_gradient_that_is_not_ours_fails_loudly(here, monkeypatch):
    def twice(problem):
        step = by_jax.mapped(problem)
        step.gradient, once = lambda: [2 * leaf for leaf in once()], step.gradient
        return step

    monkeypatch.setattr(by_jax, "twice", twice, raising=False)
    wrong = {MAPPED: METHODS[MAPPED]._replace(start="benchmarks.clipping.by_jax:twice")}
    with pytest.raises(Failure) as error:
        agreement.check(wrong, ["dense"])
    assert str(error.value) == (
        f"{MAPPED} on a small dense: expected jaxnet's clipped gradient to 0.0001 of a parameter's largest number, "
        "got one that is off by 1.0e+00"
    )


def test_who_has_no_such_layer_is_told_with_its_last_words(here, monkeypatch, capsys):
    monkeypatch.setattr(agreement, "started", Dead)
    assert agreement.check({MAPPED: METHODS[MAPPED]}, ["dense"]) == {"dense": {MAPPED: "no such layer"}}
    monkeypatch.setattr(beside, "started", Dead)
    costs = beside.costs_of({MAPPED: METHODS[MAPPED]}, TINY, 3, rounds=1)
    assert costs == {MAPPED: "no such layer"}
    assert beside.table(costs, METHODS).splitlines()[-1] == f"{MAPPED}: no such layer"


def test_half_of_the_small_networks_examples_are_clipped():
    problem = agreement.small("dense")
    plain, clipped = (_gradient(name, problem) for name in (OUR_PLAIN, OURS))
    loose = _gradient(OURS, problem._replace(max_norm=1e6))
    assert agreement.off(loose, plain) < 1e-5 < agreement.off(clipped, plain)


@pytest.mark.parametrize("kind", SMALL)
def test_a_networks_examples_are_what_it_takes(kind):
    net = SMALL[kind]
    x, y = networks.examples(net, 3)
    built = networks.build(net)
    z = jax.eval_shape(lambda key, x: built.apply(built.init(key), x), jax.random.key(0), x)
    assert z.shape[:-1] == y.shape
    assert len(x) == 3


def test_the_process_answers_as_what_runs_in_it_does():
    problem = Problem(TINY, 3)
    with started(METHODS[OURS], problem) as worker:
        assert worker.ask("bytes 8") == Here(METHODS[OURS], problem).ask("bytes 8")


def test_the_largest_batch_fits_where_one_larger_by_a_part_does_not():
    def lines(n):
        return 1000 + 7 * n + (500 if n > 60 else 0)

    for limit in (900, 1050, 1200, 2000, 10_000, 123_456):
        found = largest.within(lines, limit)
        assert found == 0 or lines(found) <= limit
        assert lines(found + max(1, int(found / 32) + 1)) > limit
    assert largest.along(lambda n: 10 + 7 * n, 10_000, 500) == 1427
    assert largest.along(lambda n: 10 + 7 * n, 10_000, 5) == 1427


def test_largest_tells_of_every_network_and_method(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(largest, "LIMIT", 2**13)
    methods = {OURS: METHODS[OURS]}
    monkeypatch.setattr(largest, "asked", lambda against: methods)
    benchmark(BenchmarkConfig("largest", out=str(tmp_path / "out")))
    found = json.loads((tmp_path / "out" / "results.json").read_text())["found"]["tiny"]
    assert found[OURS] > 1
    assert by_jax.clipped(Problem(TINY, 1)).bytes(found[OURS]) <= 2**13
    assert re.search(rf"^step +tiny\n{OURS} +{found[OURS]}$", capsys.readouterr().out, re.MULTILINE)


def test_against_names_a_package_that_the_benchmark_has():
    assert list(asked(("jax-privacy",))) == [OUR_PLAIN, OURS, "jaxnet, clipped, budget 0", PLAIN, MAPPED, "jax-privacy"]
    with pytest.raises(BadInput) as error:
        BenchmarkConfig("per-example", against=("flax",))
    assert str(error.value) == "--against flax: per-example has opacus, jax-privacy"
    with pytest.raises(BadInput) as error:
        BenchmarkConfig("training", against=("opacus",))
    assert str(error.value) == "--against opacus: training has flax, equinox, haiku, torch, scikit-learn"


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("kind", SMALL)
def test_the_others_clip_to_the_same_gradient_where_they_are_installed(here, kind):
    pytest.importorskip("opacus")
    methods = {name: method for name, method in asked(("opacus", "jax-privacy")).items() if method.installed()}
    assert agreement.check(methods, [kind]) == {kind: {}}


def _gradient(name, problem):
    with Here(METHODS[name], problem) as worker:
        worker.ask("prepare")
        return [np.asarray(leaf) for leaf in worker.ask("gradient")["gradient"]]
