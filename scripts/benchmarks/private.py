"""Private training beside Opacus: the same networks, starts, examples, noise, rate of draws and optimizer."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import report
from benchmarks.report import Spread
from jaxnet.experiment.commands import reading
from jaxnet.experiment.commands.beforehand import with_budget
from jaxnet.experiment.console import packages, screen
from jaxnet.experiment.data import texts
from jaxnet.experiment.data.problem import loss_of
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training.batches import blocks_of
from jaxnet.experiment.training.loop import train
from jaxnet.experiment.training.objective import keys_of, make_judge
from jaxnet.experiment.training.position import Trained

EPSILONS, DELTA, CLIP = (3.0, 8.0), 1e-5, 1.0


class Setting(NamedTuple):
    """How one kind of data is learnt; nothing of it was tuned.

    Attributes:
      models: the networks.
      options: of all of them.
    """

    models: tuple[Any, ...]
    options: dict[str, Any]


DIGITS = Setting(("mlp", "cnn"), {"batch_size": 256, "epochs": 20, "learning_rate": 0.01})
IMAGES = Setting(("cnn",), {"batch_size": 256, "epochs": 5, "learning_rate": 0.002})
TEXT = Setting(
    ("transformer",),
    {"batch_size": 512, "epochs": 6, "learning_rate": 0.005, "width": 32, "depth": 2, "context": 32},
)


def run(out: Path, seeds: int = 5, data: str | None = None) -> dict[str, Any]:
    """Trains each network to each epsilon by both, prints a table of scores, and writes results.json.

    Args:
      out: the folder that is written into.
      seeds: of the split and the start; both have the same.
      data: of images or a text; by default digits.
    """
    packages.require("dp_accounting", "torch", "opacus")
    setting = DIGITS if data is None else TEXT if texts.is_one(data) else IMAGES
    rows, found = [], []
    for model in setting.models:
        for epsilon in EPSILONS:
            configs = [_config(setting, data or "digits", model, epsilon, seed) for seed in range(seeds)]
            pairs, multipliers = zip(*map(both, configs), strict=True)
            ours, theirs = (Spread.of(of_one) for of_one in zip(*pairs, strict=True))
            what = {"model": model, "epsilon": epsilon, "noise_multiplier": multipliers[0]}
            found.append(what | {"jaxnet": ours, "opacus": theirs})
            form = ".3f" if setting is TEXT else ".1f"
            rows.append((model, f"{epsilon:g}", f"{multipliers[0]:.3f}", ours.text(form), theirs.text(form)))
    options = {"data": data or "digits", "delta": DELTA, "clip": CLIP, **setting.options}
    results = {"benchmark": "private", **report.environment(), "seeds": seeds, **options, "found": found}
    report.write_results(out, results)
    score = "test loss in nats" if setting is TEXT else "test accuracy %"
    print(screen.table(("network", "epsilon", "noise", f"jaxnet, {score}", f"Opacus, {score}"), rows, texts=1))
    print(screen.fill("Medians [least-most] over the seeds, each a run that would spend epsilon by itself."))
    return results


def _config(setting, data, model, epsilon, seed):
    return TrainConfig(
        data=data,
        model=model,
        private_epsilon=epsilon,
        private_delta=DELTA,
        clip_examples=CLIP,
        weight_decay=0.0,
        seed=seed,
        **setting.options,
    )


def both(config: TrainConfig) -> tuple[tuple[float, float], float]:
    """The scores of jaxnet and of Opacus: accuracy in percent, or of a text the loss; and the noise multiplier."""
    examples, layout = reading.prepared(config), make_layout()
    problem, recipe = examples.problem, with_budget(config, examples.parts.train.examples)
    network = config.network(examples.parts.train.x.shape[1:], problem.outputs, problem.output_activation)
    parts, net = examples.parts.shaped(network.shape), network.net
    *_, trained = train(recipe, net, problem, parts, layout)
    assert isinstance(trained, Trained)
    judge = make_judge(net, loss_of(problem), problem, blocks_of(parts.test, problem, "float32", layout), layout)
    start, *_ = keys_of(np.uint32(config.seed))
    theirs = by_opacus(network, jax.device_get(net.init(start)), parts, recipe)
    score = 0 if problem.positions else 1
    ours, of_opacus = ((loss, 100 * accuracy)[score] for loss, accuracy in (judge(trained.params), theirs))
    return (ours, of_opacus), recipe.noise_multiplier


def by_opacus(network: Any, params: Any, parts: Any, recipe: Any) -> tuple[float, float]:
    """Loss and accuracy of the test part, see `by_opacus.trained`; imports PyTorch."""
    from benchmarks import by_opacus

    return by_opacus.trained(
        network, params, parts, recipe.budget, recipe.clip_examples, recipe.learning_rate, recipe.seed
    )
