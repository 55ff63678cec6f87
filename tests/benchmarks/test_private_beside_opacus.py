"""Private training beside Opacus: its table, and that both have the same networks, starts and gradients."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import private
from benchmarks.private import Setting

import jaxnet as jn
from jaxnet.experiment.console import packages
from jaxnet.experiment.data.problem import loss_of
from jaxnet.experiment.options.train_config import TrainConfig

pytestmark = pytest.mark.usefixtures("optax_promotion")
LINES = "it was the best of times, it was the worst of times\n" * 12


def test_a_table_tells_of_both_what_they_reach_with_the_same_noise(tmp_path, monkeypatch, capsys):
    """Two steps; what is handed on to Opacus is looked at."""
    given = []

    def told(network, params, parts, recipe):
        given.append(
            (str(network), [leaf.shape for leaf in jax.tree.leaves(params)], recipe.budget, recipe.learning_rate)
        )
        return 2.0, 0.25

    monkeypatch.setattr(packages, "require", lambda *names: None)
    monkeypatch.setattr(private, "by_opacus", told)
    monkeypatch.setattr(private, "EPSILONS", (8.0,))
    options = {"batch_size": 800, "epochs": 1, "learning_rate": 0.01, "hidden": (4,)}
    monkeypatch.setattr(private, "DIGITS", Setting(("mlp",), options))
    private.run(tmp_path, seeds=1)
    ((network, shapes, budget, rate),) = given
    assert network == "64-4-10, relu, output identity"
    assert shapes == [(4, 64), (4,), (10, 4), (10,)]
    assert (budget.epsilon, budget.delta, budget.batch_size, budget.steps, rate) == (8.0, 1e-5, 800, 2, 0.01)
    results = json.loads((tmp_path / "results.json").read_text())
    (found,) = results["found"]
    assert (found["noise_multiplier"], found["opacus"]["least"]) == (budget.noise_multiplier, 25.0)
    assert 0 <= found["jaxnet"]["median"] <= 100
    line = r"^mlp +8 +\d\.\d{3} +\d+\.\d \[\d+\.\d-\d+\.\d\] +25\.0 \[25\.0-25\.0\]$"
    assert re.search(line, capsys.readouterr().out, re.MULTILINE)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize(
    "options",
    [{"model": "mlp"}, {"model": "cnn"}, {"model": "transformer", "width": 8, "heads": 2, "depth": 2, "context": 8}],
    ids=["mlp", "cnn", "transformer"],
)
def test_opacus_has_the_same_gradients_of_each_example(options, tmp_path):
    """From the tensors that training hands it: with channels last in memory, its convolutions' are others."""
    pytest.importorskip("opacus")
    from benchmarks import by_opacus

    if options["model"] == "transformer":
        (tmp_path / "a.txt").write_text(LINES)
        options = options | {"data": str(tmp_path / "a.txt")}
    examples, config = private.reading.prepared(TrainConfig(**options)), TrainConfig(**options)
    problem = examples.problem
    network = config.network(examples.parts.train.x.shape[1:], problem.outputs, problem.output_activation)
    part, net = examples.parts.shaped(network.shape).test, network.net
    params, loss = net.init(jax.random.key(0)), loss_of(problem)
    x, y = (
        jnp.asarray(array) for array in (part.x.read(slice(0, 3), np.float32), problem.encode(part.y[:3], np.float32))
    )
    z, cache = net.forward(params, x)
    dparams, _ = net.backward(params, cache, loss.backward(z, y))
    ours = jax.tree.map(np.asarray, jn.per_example.each(dparams))
    theirs = by_opacus.GradSampleModule(by_opacus.torch_net(network, params))
    x, y = (array[:3] for array in by_opacus.tensors(part))
    by_opacus.loss_of(theirs(x), y).backward()
    for k in range(3):
        of_one = by_opacus.leaves_of(network.model, jax.tree.map(lambda leaf, k=k: leaf[k], ours))
        for expected, parameter in zip(of_one, theirs.parameters(), strict=True):
            scale = max(np.abs(expected).max(), 1e-3)
            np.testing.assert_allclose(parameter.grad_sample[k].numpy(), expected, rtol=0, atol=1e-4 * scale)
