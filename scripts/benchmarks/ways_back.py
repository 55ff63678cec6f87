"""Learning without weight transport: whether the update through other weights turns towards the gradient.

Four arms train the same network by plain stochastic gradient descent and differ in the weights that the signal travels
back through: the transpose, fixed random ones, the signs, and direct ones from the output. After each epoch, and before
the first, the angle is measured between an arm's update and the gradient, each the mean over the whole training part.
The last layer hears the true signal in every arm, so the angle that counts leaves its parameters out. Each arm's
learning rate is chosen on a validation part from the same grid, on seeds of its own.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks import report
from benchmarks.report import Spread
from jaxnet import feedback, gradient, losses, networks
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.errors import interrupted
from jaxnet.experiment.figures.canvas import BLUE, GREEN, GREY, ORANGE, log_axis
from jaxnet.layers.activations import tanh
from jaxnet.training import TrainState, make_epoch

SIZES = (64, 128, 64, 10)
BATCH_SIZE = 32
LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
TUNING_SEEDS = (1000, 1001)
TEST, VALIDATION = 0.25, 0.2
SPLIT_SEED = 0
# Degrees; float32 tells angles near 0 only to 0.04.
RESOLUTION = 0.1

NET = networks.mlp(SIZES, tanh)
LOSS = losses.softmax_cross_entropy_with_integer_labels


class Part(NamedTuple):
    """Standardised inputs (m, 64) and the digits they show (m,)."""

    x: jax.Array
    y: jax.Array


class History(NamedTuple):
    """Before the first epoch and after each: (epochs + 1,), or (seeds, epochs + 1) for several.

    Attributes:
      train_loss: of the part trained on, in nats per image.
      held_out_loss, held_out_accuracy: of the other part.
      hidden_angle: between update and gradient, all parameters but the last layer's, in degrees.
      whole_angle: the same for all parameters.
    """

    train_loss: Any
    held_out_loss: Any
    held_out_accuracy: Any
    hidden_angle: Any
    whole_angle: Any


class Outcome(NamedTuple):
    """An arm: the validation loss of each learning rate, the best one, and its runs, (seeds, epochs + 1) each."""

    tuning: dict[float, float]
    learning_rate: float
    runs: History


class Arm(NamedTuple):
    """A way back.

    Attributes:
      backward: `(params, x, key) -> backward` for initial parameters and a key of the feedback weights.
      line: how the figure draws it.
    """

    backward: Callable[[Any, jax.Array, jax.Array], feedback.Backward]
    line: dict[str, Any]


ARMS = {
    "transpose": Arm(lambda params, x, key: NET.backward, {"color": GREY, "ls": "-", "marker": "o"}),
    "random": Arm(
        lambda params, x, key: feedback.alignment(NET, NET.init(key)), {"color": BLUE, "ls": "--", "marker": "s"}
    ),
    "sign": Arm(lambda params, x, key: feedback.sign_symmetry(NET), {"color": GREEN, "ls": "-.", "marker": "^"}),
    "direct": Arm(
        lambda params, x, key: feedback.direct(NET, feedback.direct_weights(NET, params, x, key)),
        {"color": ORANGE, "ls": ":", "marker": "D"},
    ),
}


def run(out: Path, seeds: int = 5, epochs: int = 60) -> dict[str, Any]:
    """Tunes and trains the four arms, prints a table, and writes results.json and feedback.png and .svg.

    Args:
      out: the folder that is written into.
      seeds: how many of initial parameters, feedback weights and orders of examples: 0, 1, ...
      epochs: of each run, the tuning's too.

    Returns:
      What results.json holds.
    """
    tuning_parts, parts = digits()
    outcomes = {name: _try(name, tuning_parts, parts, range(seeds), epochs) for name in ARMS}
    results = {
        "benchmark": "feedback",
        **report.environment(),
        "sizes": SIZES,
        "batch_size": BATCH_SIZE,
        "epochs": epochs,
        "seeds": list(range(seeds)),
        "tuning_seeds": TUNING_SEEDS,
        "grid": {"learning_rate": LEARNING_RATES},
        "arms": {name: _told(outcome) for name, outcome in outcomes.items()},
    }
    report.write_results(out, results)
    _draw(out, outcomes)
    print(_table(results["arms"]))
    return results


def digits() -> tuple[tuple[Part, Part], tuple[Part, Part]]:
    """The handwritten digits in parts, stratified by class, always the same.

    Returns:
      What is trained on and held out in the tuning, the test part in neither; then the same for what is reported: all
      but the test part, and the test part.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    drawn = partial(train_test_split, random_state=SPLIT_SEED)
    x, test_x, y, test_y = drawn(data.data, data.target, test_size=TEST, stratify=data.target)
    fit_x, validation_x, fit_y, validation_y = drawn(x, y, test_size=VALIDATION, stratify=y)
    return _standardised(fit_x, fit_y, validation_x, validation_y), _standardised(x, y, test_x, test_y)


def _try(name, tuning_parts, parts, seeds, epochs):
    """Tunes an arm and trains it with its best learning rate."""
    train = _trainer(ARMS[name], tuning_parts, epochs)
    tuning = {rate: _held_out_loss(_runs(train, rate, TUNING_SEEDS)) for rate in LEARNING_RATES}
    best = min(tuning, key=tuning.__getitem__)
    screen.say(f"{name}: learning rate {best:g}", flush=True)
    return Outcome(tuning, best, _runs(_trainer(ARMS[name], parts, epochs), best, seeds))


def _runs(train, learning_rate, seeds):
    """The histories of all seeds, (seeds, epochs + 1) each."""
    histories = []
    for seed in seeds:
        if interrupted():
            raise KeyboardInterrupt
        histories.append(jax.device_get(train(learning_rate, jax.random.key(seed))))
    return History(*(np.stack(values) for values in zip(*histories, strict=True)))


def _held_out_loss(runs):
    """What the tuning goes by: the mean after the last epoch, infinite where a run diverged."""
    loss = float(runs.held_out_loss[:, -1].mean())
    return loss if np.isfinite(loss) else np.inf


def _standardised(x, y, held_out_x, held_out_y):
    """Two parts with features of mean 0 and variance 1 over the first; those constant there are 0."""
    deviation = x.std(axis=0)
    divisor = np.where(deviation > 0, deviation, np.inf)
    return tuple(
        Part(jnp.asarray((of_part - x.mean(axis=0)) / divisor, jnp.float32), jnp.asarray(labels))
        for of_part, labels in ((x, y), (held_out_x, held_out_y))
    )


def _trainer(arm, parts, epochs):
    """(learning_rate, key) -> History, compiled."""
    train, held_out = parts

    def history(learning_rate, key):
        init_key, feedback_key, order_key = jax.random.split(key, 3)
        params, optimizer = NET.init(init_key), optax.sgd(learning_rate)
        through = partial(gradient.value_and_grad, backward=arm.backward(params, train.x, feedback_key))
        epoch = make_epoch(NET, LOSS, optimizer, BATCH_SIZE, value_and_grad=through)
        measure = partial(_measure, through, train, held_out)

        def trained(state, _):
            state, _ = epoch(state, *train)
            return state, measure(state.params)

        _, after = lax.scan(trained, TrainState.create(params, optimizer, order_key), length=epochs)
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), measure(params), after)

    return jax.jit(history)


def _measure(through, train, held_out, params):
    """A History of this moment alone."""
    train_loss, true = gradient.value_and_grad(NET, LOSS)(params, *train)
    _, update = through(NET, LOSS)(params, *train)
    z = NET.apply(params, held_out.x)
    return History(
        train_loss,
        LOSS.forward(z, held_out.y).mean(),
        (z.argmax(axis=-1) == held_out.y).mean(),
        feedback.angle(update[:-1], true[:-1]),
        feedback.angle(update, true),
    )


def _told(outcome):
    """The numbers of an arm."""
    runs = outcome.runs
    angles = {"before": 0, "after_1_epoch": min(1, runs.hidden_angle.shape[1] - 1), "at_the_end": -1}
    first, last = runs.hidden_angle[:, 0], runs.hidden_angle[:, -1]
    falling = (last < 90) & (last < first - RESOLUTION)
    return {
        "learning_rate": outcome.learning_rate,
        "tuning": [{"learning_rate": rate, "validation_loss": loss} for rate, loss in outcome.tuning.items()],
        "train_loss": Spread.of(runs.train_loss[:, -1]),
        "test_accuracy": {"mean": runs.held_out_accuracy[:, -1].mean(), **_range(runs.held_out_accuracy[:, -1])},
        "hidden_angle": {when: Spread.of(runs.hidden_angle[:, at]) for when, at in angles.items()},
        "whole_angle": {when: Spread.of(runs.whole_angle[:, at]) for when, at in angles.items()},
        "below_90_and_falling": {"seeds": int(falling.sum()), "of": len(falling), "all": bool(falling.all())},
        "by_seed": runs._asdict(),
    }


def _range(values):
    return {"least": values.min(), "most": values.max()}


def _table(arms):
    header = ("arm", "rate", "train loss", "test accuracy (%)", "angle before", "after 1 epoch", "at the end")
    notes = (
        "Medians over the seeds [least-most]; of the accuracy the mean.",
        "Angle: in degrees, between update and gradient on the training part, all parameters but the last layer's.",
        "Falling: at the end lower than before.",
        report.EDGE,
    )
    rows = [_row(name, arm) for name, arm in arms.items()]
    return "\n".join(
        (screen.table((*header, "all parameters", "below 90 and falling"), rows), *map(screen.fill, notes))
    )


def _row(name, arm):
    accuracy, falling = arm["test_accuracy"], arm["below_90_and_falling"]
    return (
        name,
        report.marked(arm["learning_rate"], LEARNING_RATES),
        arm["train_loss"].text(".2g"),
        f"{100 * accuracy['mean']:.1f} [{100 * accuracy['least']:.1f}-{100 * accuracy['most']:.1f}]",
        *(angle.text(".1f") for angle in arm["hidden_angle"].values()),
        arm["whole_angle"]["at_the_end"].text(".1f"),
        f"{'yes' if falling['all'] else 'no'} ({falling['seeds']} of {falling['of']})",
    )


def _draw(out, outcomes):
    """The training loss and the angle against the epoch."""
    figure, (left, right) = report.subplots(2)
    for name, outcome in outcomes.items():
        line = {**ARMS[name].line, "ms": 4, "markevery": 5}
        report.draw_runs(left, outcome.runs.train_loss, **line, label=name)
        report.draw_runs(right, outcome.runs.hidden_angle, **line)
    right.axhline(90, color="black", lw=0.8)
    left.set(xlabel="epochs", ylabel="cross-entropy (nats per image)", title="Training loss")
    log_axis(left.yaxis)
    right.set(xlabel="epochs", ylabel="angle (degrees)", title="Update and gradient, hidden layers", ylim=(-3, 100))
    right.set_yticks(range(0, 91, 15))
    figure.legend(loc="outside lower center", ncols=4, frameon=False, title="signal sent back by")
    report.save(figure, out, "feedback")
