"""K-FAC beside Adam: how many epochs each needs to the same training loss.

Adam's training loss after its last epoch is the mark; what counts is the first epoch after which K-FAC's is no higher.
Both losses are those of the whole training data, evaluated after the epoch. Both arms have the same grid, two batch
sizes by eight values of one number (Adam's learning rate, K-FAC's least damping), and are tuned on seeds of their own.
An epoch of K-FAC costs more than one of Adam, so the seconds stand beside the epochs.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import report
from benchmarks.report import Spread
from jaxnet import losses, networks, optimizers
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.errors import interrupted
from jaxnet.experiment.figures.canvas import BLUE, GREY, ORANGE, log_axis
from jaxnet.layer import Layer
from jaxnet.layers.activations import tanh
from jaxnet.losses import Loss
from jaxnet.training import TrainState, make_epoch

BATCH_SIZES = (64, 128)
GRID = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
TUNING_SEEDS = (1000, 1001)


class Problem(NamedTuple):
    """What is learnt.

    Attributes:
      name: for the table.
      net, loss: the network and what is minimised.
      x, y: the training data.
      unit: of the loss.
      epochs: how many each arm is given, by the arm's name.
      judged: the epoch after which the tuning compares an arm's settings, by the arm's name.
      target: the epoch by which K-FAC is to have reached Adam's final loss.
    """

    name: str
    net: Layer
    loss: Loss
    x: jax.Array
    y: jax.Array
    unit: str
    epochs: dict[str, int]
    judged: dict[str, int]
    target: int


class Arm(NamedTuple):
    """An optimizer with its one number.

    Attributes:
      number: what the number is.
      make: `(problem, number, key) -> optimizer`. The key is in the optimizer's state alone, so that one compiled epoch
        serves all seeds.
      line: how the figure draws it.
    """

    number: str
    make: Callable[[Problem, float, jax.Array], optax.GradientTransformation]
    line: dict[str, Any]


class Setting(NamedTuple):
    """A point of an arm's grid."""

    batch_size: int
    number: float


class Run(NamedTuple):
    """The training loss before the first epoch and after each, (epochs + 1,), and each epoch's seconds, (epochs,)."""

    losses: np.ndarray
    seconds: np.ndarray


class Outcome(NamedTuple):
    """An arm on a problem: the loss that the tuning found for each setting, the best one, and its runs."""

    tuning: dict[Setting, float]
    setting: Setting
    runs: list[Run]


def adam(problem: Problem, learning_rate: float, key: jax.Array) -> optax.GradientTransformation:
    """Adam; it draws nothing from the key."""
    return optax.adam(learning_rate)


def kfac(problem: Problem, least_damping: float, key: jax.Array) -> optax.GradientTransformation:
    """K-FAC that chooses its step by the quadratic model."""
    return optimizers.kfac(problem.net, problem.loss, least_damping=least_damping, key=key)


ARMS = {
    "Adam": Arm("learning rate", adam, {"color": ORANGE, "ls": "--", "marker": "o"}),
    "K-FAC": Arm("least damping", kfac, {"color": BLUE, "ls": "-", "marker": "s"}),
}


def run(out: Path, seeds: int = 5) -> dict[str, Any]:
    """Tunes both arms, trains them on both problems, prints a table, and writes results.json and kfac.png and .svg.

    Args:
      out: the folder that is written into.
      seeds: how many of initial parameters, orders of examples and drawn labels: 0, 1, ...

    Returns:
      What results.json holds.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    problems = (autoencoder(), classification())
    # The threads of SciPy's BLAS, which inverts the factors on a CPU, wait by spinning: where other programs run, a
    # hundred times as long as the inverses take. The limit holds for what is loaded, as it is with the problems.
    with threadpool_limits(1, "blas"):
        outcomes = [{name: _try(problem, name, range(seeds)) for name in ARMS} for problem in problems]
    results = {
        "benchmark": "kfac",
        **report.environment(),
        "seeds": list(range(seeds)),
        "tuning_seeds": TUNING_SEEDS,
        "grid": {"batch_size": BATCH_SIZES, "number": GRID},
        "problems": {problem.name: _told(problem, of) for problem, of in zip(problems, outcomes, strict=True)},
    }
    report.write_results(out, results)
    _draw(out, problems, outcomes)
    print(_table(problems, results["problems"]))
    return results


def autoencoder() -> Problem:
    """Digits through eight numbers and back: a deep autoencoder on all 1,797 images, pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    x = jnp.asarray(load_digits().data / 16, jnp.float32)
    net = networks.mlp((64, 32, 16, 8, 16, 32, 64), tanh)
    unit = "half squared error"
    epochs, judged = {"Adam": 100, "K-FAC": 50}, {"Adam": 100, "K-FAC": 33}
    return Problem("autoencoder", net, losses.half_squared_error, x, x, unit, epochs, judged, target=33)


def classification() -> Problem:
    """Digits by class, all 1,797 images, features standardised; constant ones are 0."""
    from sklearn.datasets import load_digits
    from sklearn.preprocessing import scale

    digits = load_digits()
    x, y = jnp.asarray(scale(digits.data), jnp.float32), jnp.asarray(digits.target)
    net, loss = networks.mlp((64, 64, 10), tanh), losses.softmax_cross_entropy_with_integer_labels
    epochs, judged = {"Adam": 30, "K-FAC": 30}, {"Adam": 30, "K-FAC": 15}
    return Problem("classification", net, loss, x, y, "cross-entropy, nats", epochs, judged, target=15)


def first_at_most(losses: np.ndarray, mark: float) -> float:
    """The first epoch after which the loss is no higher than the mark; infinity if there is none."""
    reached = np.flatnonzero(losses <= mark)
    return float(reached[0]) if len(reached) else np.inf


def _try(problem, name, seeds):
    """Tunes an arm and runs its best setting."""
    arm = ARMS[name]
    settings = [Setting(batch_size, number) for batch_size in BATCH_SIZES for number in GRID]
    trains = {setting: _trainer(problem, arm, setting) for setting in settings}

    def judged(setting):
        runs = [trains[setting](seed, problem.judged[name]) for seed in TUNING_SEEDS]
        return float(np.mean([run.losses[-1] for run in runs]))

    tuning = {setting: judged(setting) for setting in settings}
    best = min(tuning, key=tuning.__getitem__)
    screen.say(f"{problem.name}, {name}: batch size {best.batch_size}, {arm.number} {best.number:g}", flush=True)
    return Outcome(tuning, best, [trains[best](seed, problem.epochs[name]) for seed in seeds])


def _trainer(problem, arm, setting):
    """(seed, epochs) -> Run, through one compiled epoch."""
    net, loss, x, y = problem.net, problem.loss, problem.x, problem.y
    epoch = make_epoch(net, loss, arm.make(problem, setting.number, jax.random.key(0)), setting.batch_size)
    evaluate = jax.jit(lambda params: loss.forward(net.apply(params, x), y).mean())

    def train(seed, epochs):
        init_key, order_key, label_key = jax.random.split(jax.random.key(seed), 3)
        state = TrainState.create(net.init(init_key), arm.make(problem, setting.number, label_key), order_key)
        values, seconds = [float(evaluate(state.params))], []
        for _ in range(epochs):
            if interrupted():
                raise KeyboardInterrupt
            start = time.perf_counter()
            state, _ = jax.block_until_ready(epoch(state, x, y))
            seconds.append(time.perf_counter() - start)
            values.append(float(evaluate(state.params)))
        return Run(np.where(np.isfinite(values), values, np.inf), np.array(seconds))

    return train


def _told(problem, outcomes):
    """The numbers of a problem, with Adam's last loss, seed by seed, as the mark for both arms."""
    marks = [run.losses[-1] for run in outcomes["Adam"].runs]
    arms = {name: _told_arm(name, outcome, marks, problem) for name, outcome in outcomes.items()}
    met = arms["K-FAC"]["epochs_to_mark"].median <= problem.target
    return {"target_epoch": problem.target, "target_met": bool(met), "loss": problem.unit, "arms": arms}


def _told_arm(name, outcome, marks, problem):
    reached = np.array([first_at_most(run.losses, mark) for run, mark in zip(outcome.runs, marks, strict=True)])
    seconds = float(np.median([run.seconds for run in outcome.runs]))
    return {
        "batch_size": outcome.setting.batch_size,
        ARMS[name].number: outcome.setting.number,
        "tuning": [{**setting._asdict(), "loss": loss} for setting, loss in outcome.tuning.items()],
        "tuned_at_epoch": problem.judged[name],
        "final_loss": Spread.of([run.losses[-1] for run in outcome.runs]),
        "epochs_to_mark": Spread.of(reached),
        "share_of_adams_epochs": Spread.of(reached / problem.epochs["Adam"]),
        "epochs_to_mark_by_seed": reached,
        "seconds_per_epoch": seconds,
        "seconds_to_mark": float(np.median(reached)) * seconds,
        "losses": [run.losses for run in outcome.runs],
    }


def _table(problems, told):
    header = ("problem", "arm", "setting", "final loss", "epochs to the mark", "share", "target", "met", "s/epoch", "s")
    rows = [
        _row(problem, name, arm, told[problem.name]["target_met"])
        for problem in problems
        for name, arm in told[problem.name]["arms"].items()
    ]
    notes = (
        "Medians over the seeds [least-most]. The mark is Adam's loss after its last epoch, seed by seed.",
        "share: of Adam's epochs; target: by which epoch K-FAC is to be there.",
        "s: seconds to the mark, compilation excluded.",
        report.EDGE,
    )
    return "\n".join((screen.table(header, rows, texts=3), *map(screen.fill, notes)))


def _row(problem, name, arm, met):
    ours, number = name == "K-FAC", ARMS[name].number
    return (
        problem.name,
        name,
        f"batch {arm['batch_size']}, {number} {report.marked(arm[number], GRID)}",
        arm["final_loss"].text(".4g"),
        arm["epochs_to_mark"].text(".0f"),
        arm["share_of_adams_epochs"].text(".2f"),
        str(problem.target) if ours else "",
        ("yes" if met else "no") if ours else "",
        f"{arm['seconds_per_epoch']:.4f}",
        "never" if np.isinf(arm["seconds_to_mark"]) else f"{arm['seconds_to_mark']:.2f}",
    )


def _draw(out, problems, outcomes):
    """The losses against the epoch, with Adam's last one and the target as thin lines."""
    figure, panels = report.subplots(len(problems))
    for axes, problem, of in zip(panels, problems, outcomes, strict=True):
        every = max(1, max(problem.epochs.values()) // 10)
        for name, outcome in of.items():
            runs = np.array([run.losses for run in outcome.runs])
            report.draw_runs(axes, runs, **ARMS[name].line, ms=4, markevery=every, label=f"{name}, median and range")
        mark = np.median([run.losses[-1] for run in of["Adam"].runs])
        axes.axhline(mark, color=GREY, lw=1, ls=":", label="Adam's final loss, median")
        axes.axvline(problem.target, color=GREY, lw=1, ls="-.", label="K-FAC's target epoch")
        axes.set(xlabel="epochs", ylabel=f"training loss ({problem.unit})", title=problem.name.capitalize())
        log_axis(axes.yaxis)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    report.save(figure, out, "kfac")
