"""Private training beside Opacus: the same networks, examples, noise, rate of draws and optimizer; other draws."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.report import Spread
from jaxnet.experiment.commands.train import with_budget
from jaxnet.experiment.console import packages, screen
from jaxnet.experiment.data import named
from jaxnet.experiment.data.examples import prepare
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training.batches import blocks_of
from jaxnet.experiment.training.loop import train
from jaxnet.experiment.training.position import Trained
from jaxnet.experiment.training.scores import make_predict_and_judge, scores

NETS: tuple[Any, ...] = ("mlp", "cnn")
EPSILONS, DELTA, CLIP = (3.0, 8.0), 1e-5, 1.0
BATCH, EPOCHS, RATE = 256, 20, 0.01


def run(out: Path, seeds: int = 5) -> dict[str, Any]:
    """Trains each network to each epsilon by both, prints a table of accuracies, and writes results.json.

    Args:
      out: the folder that is written into.
      seeds: splits of the digits; both see the same.
    """
    packages.require("dp_accounting", "torch", "opacus")
    rows, found = [], []
    for model in NETS:
        for epsilon in EPSILONS:
            pairs, multipliers = zip(*(_both(model, epsilon, seed) for seed in range(seeds)), strict=True)
            ours, theirs = (Spread.of([100 * accuracy for accuracy in of_one]) for of_one in zip(*pairs, strict=True))
            what = {"model": model, "epsilon": epsilon, "noise_multiplier": multipliers[0]}
            found.append(what | {"jaxnet": ours, "opacus": theirs})
            rows.append((model, f"{epsilon:g}", f"{multipliers[0]:.3f}", ours.text(".1f"), theirs.text(".1f")))
    options = {"delta": DELTA, "clip": CLIP, "batch_size": BATCH, "epochs": EPOCHS, "learning_rate": RATE}
    results = {"benchmark": "private", **report.environment(), "seeds": seeds, **options, "found": found}
    report.write_results(out, results)
    header = ("network", "epsilon", "noise", "jaxnet, test accuracy %", "Opacus, test accuracy %")
    print(screen.table(header, rows, texts=1))
    print(screen.fill("Medians [least-most] over splits of the digits, each a run that would spend epsilon by itself."))
    return results


def _both(model, epsilon, seed):
    config = TrainConfig(
        model=model,
        private_epsilon=epsilon,
        private_delta=DELTA,
        clip_examples=CLIP,
        batch_size=BATCH,
        epochs=EPOCHS,
        learning_rate=RATE,
        weight_decay=0.0,
        seed=seed,
    )
    examples = prepare(named.load("digits", ()), seed)
    problem, layout = examples.problem, make_layout()
    network = config.network(examples.parts.train.x.shape[1:], problem.outputs, problem.output_activation)
    parts, recipe = examples.parts.shaped(network.shape), with_budget(config, len(examples.parts.train.y))
    *_, trained = train(recipe, network.net, problem, parts, layout)
    assert isinstance(trained, Trained)
    test = blocks_of(parts.test, problem, "float32", layout)
    predicted, _ = make_predict_and_judge(network.net, problem, test, layout)(trained.params)
    ours = scores(problem, predicted, parts.test.y)["accuracy"]
    return (ours, _by_opacus(model, recipe.budget, parts, seed)), recipe.noise_multiplier


def _by_opacus(model, budget, parts, seed):
    """The test accuracy after the same steps of Opacus."""
    import torch
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    torch.manual_seed(seed)
    net = GradSampleModule(_torch_net(model, parts.train.x.shape[1:]))
    adam = torch.optim.Adam(net.parameters(), lr=RATE)
    optimizer = DPOptimizer(
        adam, noise_multiplier=budget.noise_multiplier, max_grad_norm=CLIP, expected_batch_size=budget.batch_size
    )
    x, x_test = (torch.tensor(_channels_first(part.x.read(slice(None), np.float32))) for part in parts[:3:2])
    y, y_test = (torch.tensor(part.y) for part in parts[:3:2])
    loss = torch.nn.CrossEntropyLoss()
    for _ in range(budget.steps):
        drawn = torch.rand(len(x)) < budget.rate
        optimizer.zero_grad()
        loss(net(x[drawn]), y[drawn]).backward()
        optimizer.step()
    with torch.no_grad():
        return float((net(x_test).argmax(1) == y_test).float().mean())


def _channels_first(x):
    return x if x.ndim == 2 else np.moveaxis(x, -1, 1)


def _torch_net(model, shape):
    """The networks that `--model` makes by default, with its starts."""
    from torch import nn

    blocks: list[Any] = []
    features = math.prod(shape)
    if model == "cnn":
        for before, after in ((1, 32), (32, 64)):
            blocks += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        blocks, features = [*blocks, nn.Flatten()], 64 * (shape[0] // 4) * (shape[1] // 4)
    net = nn.Sequential(*blocks, nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 10))
    for layer in net:
        if hasattr(layer, "weight"):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    nn.init.xavier_normal_(net[-1].weight)
    return net
