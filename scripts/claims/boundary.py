"""S15: the decision boundary of a problem in the plane, and how iterations move it."""

import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks import report

from claims import ensemble, linear_collapse
from claims.ensemble import Lab
from claims.verdict import Claim, more
from jaxnet import activations
from jaxnet.experiment.figures.canvas import CLASS_COLOURS
from jaxnet.experiment.storage import durable
from jaxnet.networks import mlp

DATA = ("moons", "spirals")
SIDE = 80
MARGIN = 0.3
FRAMES = 30
# Few colours keep the animation small.
LEVELS = np.linspace(0, 1, 9)
STILLS = 4
MILLISECONDS, DOTS_AN_INCH, COLOURS = 130, 80, 48


def run(lab: Lab) -> Claim:
    """Trains a network with tanh units and a linear model in the plane, and draws the boundary as it moves."""
    rows, arms, films = [], {}, {}
    for name, runs in linear_collapse.all_trained(lab, DATA).items():
        tuned, linear = runs["tanh"].tuned(), runs["linear model"].tuned()
        hidden, epochs = linear_collapse.schedule(lab, name)
        accuracy, straight = (100 * np.asarray(run.history.test_accuracy, np.float64) for run in (tuned, linear))
        where = f"{name}, 2-{hidden}-1, {epochs} epochs"
        rows.append(
            more(where, "test accuracy, after training less before (% points)", accuracy[:, -1] - accuracy[:, 0])
        )
        rows.append(
            more(where, "test accuracy, tanh units less linear model (% points)", accuracy[:, -1] - straight[:, -1])
        )
        arms[name] = {"tanh": tuned.rate, "linear model": linear.rate}
        films[name] = _Film(name, lab.seeds, tuned, epochs, hidden)
    _draw(lab, films)
    _animate(lab, films)
    return Claim(
        name="boundary",
        source="S15",
        says="a hidden layer bends the decision boundary, and iterations move it to where the classes part",
        equations=("the boundary: P(second | x) = sigmoid(z(x)) = 1/2, where z(x) = 0",),
        method=(
            "Two classes in the plane, which no straight line separates; a network with tanh units beside a linear "
            "model."
        ),
        rows=tuple(rows),
        why=(
            "The zero line of a linear z is straight; a sum of tanh units is not: "
            + ", ".join(
                f"{row.interval.mean:.0f} points more than the linear model on {name}"
                for name, row in zip(DATA, rows[1::2], strict=True)
            )
            + "."
        ),
        figure="boundary",
        legend="P(second class) and the boundary (black), seed 0, with its test part.",
        rates=arms,
        moving=True,
    )


class _Film:
    """One seed's network after each epoch, and what it makes of the plane."""

    def __init__(self, name: str, seeds: int, tuned: Any, epochs: int, hidden: int) -> None:
        on = ensemble.task(name, seeds)
        self.name = name
        net = mlp((2, hidden, 1), activations.tanh)
        self.x, self.y = np.asarray(on.test.x[0]), np.asarray(on.test.y[0]).ravel()
        low, high = self.x.min(axis=0) - MARGIN, self.x.max(axis=0) + MARGIN
        self.first, self.second = (np.linspace(a, b, SIDE) for a, b in zip(low, high, strict=True))
        grid = np.stack(np.meshgrid(self.first, self.second), axis=-1).reshape(-1, 2)
        every_epoch = jax.vmap(lambda params: jax.nn.sigmoid(net.apply(params, jnp.asarray(grid, jnp.float32))))
        self.shown = np.unique(np.geomspace(1, epochs + 1, FRAMES).astype(int) - 1)
        frames = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, self.shown]), tuned.seen)
        self.probability = np.asarray(every_epoch(frames)).reshape(len(self.shown), SIDE, SIDE)

    def paint(self, axes: Any, frame: int) -> None:
        """The plane after the frame's epoch."""
        axes.clear()
        probability = self.probability[frame]
        axes.contourf(self.first, self.second, probability, levels=LEVELS, cmap="PuOr_r", vmin=0, vmax=1, alpha=0.5)
        if probability.min() < 0.5 < probability.max():
            axes.contour(self.first, self.second, probability, levels=[0.5], colors="black", linewidths=1.6)
        for label, marker in enumerate("o^"):
            points = self.x[self.y == label].T
            axes.plot(*points, marker, color=CLASS_COLOURS[label], ms=3.5, mec="black", mew=0.5)
        axes.set_title(f"{self.name}, epoch {self.shown[frame]}", fontsize=10)


def _draw(lab, films):
    figure, panels = report.subplots(STILLS, rows=len(films), figsize=(11.5, 6.2))
    for row, film in zip(panels, films.values(), strict=True):
        stills = np.linspace(0, len(film.shown) - 1, STILLS).astype(int).tolist()
        for axes, frame in zip(row, stills, strict=True):
            film.paint(axes, frame)
            axes.set_xlabel("x1 (standard deviations)")
        row[0].set_ylabel("x2 (standard deviations)")
    _legend(figure)
    report.save(figure, lab.out, "boundary")


def _animate(lab, films):
    from PIL import Image

    figure, panels = report.subplots(len(films), figsize=(7.2, 3.9), dpi=DOTS_AN_INCH)
    _legend(figure)
    images = []
    for frame in range(max(len(film.shown) for film in films.values())):
        for axes, film in zip(panels, films.values(), strict=True):
            film.paint(axes, min(frame, len(film.shown) - 1))
            axes.set(xlabel="x1 (standard deviations)", ylabel="x2 (standard deviations)")
        figure.canvas.draw()
        # Laid out once, so that nothing trembles.
        figure.set_layout_engine("none")
        images.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB").quantize(COLOURS))
    # The last one stays for a while.
    milliseconds = [*([MILLISECONDS] * (len(images) - 1)), 20 * MILLISECONDS]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0, optimize=True)
    durable.write(lab.out / "boundary.gif", file.getvalue())
    report.close(figure)


def _legend(figure):
    from matplotlib.lines import Line2D

    marks: list[Any] = [
        Line2D([], [], marker=marker, ls="", color=CLASS_COLOURS[label], ms=5, mec="black", mew=0.5)
        for label, marker in enumerate("o^")
    ]
    marks.append(Line2D([], [], color="black", lw=1.6))
    names = ["first class", "second class", "boundary"]
    figure.legend(marks, names, loc="outside lower center", ncols=3, frameon=False)
