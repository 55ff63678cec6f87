"""Pictures of a trained network: its graph, and one example on its way through it and back."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jaxnet.drawing import draw as draw_net
from jaxnet.experiment.commands import reading
from jaxnet.experiment.console.errors import BadInput, heed_interrupt
from jaxnet.experiment.console.screen import say
from jaxnet.experiment.data.examples import Examples
from jaxnet.experiment.data.problem import loss_of
from jaxnet.experiment.figures import signals
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.resumed import restored
from jaxnet.experiment.storage import durable, folder, model_file, newest
from jaxnet.experiment.storage.destination import require_destination
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.training.one_example import way_of

PICTURE = "network.svg"


@dataclasses.dataclass(frozen=True)
class DrawConfig:
    """Draw a network that `jaxnet train` trained, or play an example through it and back."""

    WORD: ClassVar = "--html"
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run; of one that is not finished, the newest checkpoint counts."""
    out: str | None = None
    """The .svg file of the network's graph; by default network.svg in the run's folder, unless --html is asked for."""
    html: str | None = None
    """A page that plays an example forward and back, with its numbers: one file, which needs no network."""
    example: int = 0
    """Of --html, which example of the test part, from 0."""
    overwrite: bool = False
    """Replace an existing file."""

    def __post_init__(self) -> None:
        if self.example < 0:
            raise BadInput(f"--example: expected an integer of at least 0, got {self.example}")
        if self.example and self.html is None:
            raise BadInput(f"--example {self.example}: is for --html; give --html FILE, or leave it out")


def main() -> None:
    """`draw`, with this process's command line."""
    draw(parse(DrawConfig))


def draw(config: DrawConfig) -> None:
    """Writes the graph, or the page, or both.

    Raises:
      BadInput: when the run holds no model, its data are not there, there is no such example, or a file exists already
        or cannot be written.
    """
    run = Path(config.run)
    trained = model_file.load(newest.place(run))
    picture = config.out if config.out is not None or config.html is not None else str(run / PICTURE)
    for option, file in (("--out", picture), ("--html", config.html)):
        if file is not None:
            require_destination(option, Path(file), overwrite=config.overwrite)
    if picture is not None:
        _write("--out", picture, graph(trained))
    if config.html is not None:
        with jax.enable_x64(True):
            content = page(run, trained, config.example)
        heed_interrupt()
        _write("--html", config.html, content)


def graph(trained: Model) -> str:
    """The network's graph with its loss, for one example, as SVG."""
    net = trained.network.net
    blank = jax.eval_shape(net.init, jax.random.key(0))
    return draw_net(net, blank, trained.network.inputs(1, np.float32), loss=loss_of(trained.problem))


def page(run: Path, trained: Model, number: int) -> str:
    """The page of one example of the test part; in float64, whatever the run was trained in.

    Raises:
      BadInput: when the run's data are not there any more, or there is no such example.
    """
    examples = _examples(run, trained)
    part, problem = examples.parts.shaped(trained.network.shape).test, trained.problem
    if number >= len(part.y):
        raise BadInput(
            f"--example {number}: the test part of {run} has {len(part.y)} examples; expected 0 to {len(part.y) - 1}"
        )
    x, target = part.x.read(slice(number, number + 1), np.float64), part.y[number : number + 1]
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), trained.params)
    way = way_of(trained.network.net, loss_of(problem), params, x, problem.encode(target, np.float64))
    told = signals.Told(
        title=f"{run.resolve().name}: {trained.network.model}",
        about=f"{Path(examples.name).name}: {problem.kind}; {trained.network}",
        example=number,
        loss=problem.loss.replace("_", " "),
        image=_image(way.x, examples),
        **_of_text(trained, x, target) if trained.tokens is not None else _of_target(trained, way.z, target),
    )
    return signals.page(way, told)


def _examples(run: Path, trained: Model) -> Examples:
    """The run's own data again."""
    try:
        options = folder.read_options(run, restored)
    except BadInput as error:
        raise BadInput(str(error).removeprefix("--resume ")) from None
    examples = reading.prepared(options)
    if examples.fingerprint != trained.origin.data:
        raise BadInput(f"{run}: --data {options.data} is not what it was trained on any more; restore it from a copy")
    return examples


def _of_text(trained, x, target) -> dict[str, Any]:
    def shown(ids):
        return [trained.tokens.decode([int(token)]) for token in ids]

    return {"tokens": shown(x[0]), "target": f"{shown(target[0])[-1]!r} after the last token"}


def _of_target(trained, z, target) -> dict[str, Any]:
    """What is right, and what the network says, in words."""
    problem = trained.problem
    predicted = problem.predict(z[None])[0].tolist()
    if problem.classes:
        likely = list(zip(problem.classes, predicted, strict=True))
        says = max(likely, key=lambda of: of[1])[0]
        return {"target": problem.classes[int(target[0])], "predicted": says, "probabilities": likely}
    is_so = ", ".join(f"{value:.4g}" for value in np.ravel(target))
    if problem.labels:
        return {"target": is_so, "probabilities": list(zip(problem.targets, predicted, strict=True))}
    return {"target": is_so, "predicted": ", ".join(f"{value:.4g}" for value in predicted)}


def _image(x, examples) -> tuple[int, int] | None:
    """Of pixels in a row, as dense networks take them, the sides of a square image."""
    side = math.isqrt(x.size)
    return (side, side) if examples.image and x.ndim == 1 and side**2 == x.size and side > 1 else None


def _write(option: str, file: str, content: str) -> None:
    try:
        durable.write(Path(file), content.encode())
    except OSError as error:
        raise BadInput(f"{option} {file}: cannot be written ({error.strerror})") from None
    say(f"written    {file} ({len(content.encode()):,} bytes)")
