"""The options of `scripts/lesson.py`, and the order of what it does."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax
import jax.numpy as jnp
import tyro
from benchmarks import report

from claims import columns, document
from claims.ensemble import Lab
from claims.verdict import Claim
from jaxnet.compose import chain
from jaxnet.drawing import draw
from jaxnet.experiment.commands.progress import lively
from jaxnet.experiment.commands.train import device
from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.console.screen import say
from jaxnet.experiment.devices.cache import use_compilation_cache
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.storage import durable
from jaxnet.layers import activations
from jaxnet.layers.dense import dense
from jaxnet.losses import binary_cross_entropy
from jaxnet.overview import summary

What = Literal[
    "all",
    "activations",
    "boundary",
    "tanh-vs-sigmoid",
    "saturation",
    "dead-units",
    "zero-init",
    "small-init",
    "linear-collapse",
    "logistic",
    "training",
]
CLAIMS = get_args(What)[1:]
# Of those that are not called as the claim is, since something else is.
MODULES = {"activations": "activation_curves", "training": "descent"}
EXAMPLES = 200


@dataclasses.dataclass(frozen=True)
class LessonConfig:
    """Put the lesson's claims to the test: a table, figures, results.json and report.md."""

    what: Annotated[What, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")] = "all"
    """activations, boundary, tanh-vs-sigmoid, saturation, dead-units, zero-init, small-init, linear-collapse, logistic
    or training; or all of them."""
    out: str = "lesson"
    """The folder for the report, the results and the figures."""
    seeds: int = 10
    """Over which means and 95% intervals are taken; all are trained at once."""
    overwrite: bool = False
    """Write into an existing folder."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache folder, so that the next time takes less."""

    def __post_init__(self) -> None:
        if not 2 <= self.seeds <= 1000:
            raise BadInput(f"--seeds: expected an integer from 2 to 1000, got {self.seeds}; an interval needs 2")
        if not self.out.strip():
            raise BadInput("--out: expected the name of a folder, got an empty one")


def main() -> None:
    """`lesson`, with this process's command line and JAX's compilation cache."""
    config = parse(LessonConfig)
    if config.compilation_cache:
        use_compilation_cache()
    lesson(config)


def lesson(config: LessonConfig, **schedule: Any) -> list[Claim]:
    """Runs the experiments that are asked for, and writes what was found after each.

    Args:
      config: the options.
      schedule: rates, early and late of the `Lab`, where they are not to be its own.

    Raises:
      BadInput: when the folder exists already.
    """
    started = time.perf_counter()
    packages.require("sklearn", "matplotlib", "rich")
    out = Path(config.out)
    report.make_folder(out, overwrite=config.overwrite)
    names = CLAIMS if config.what == "all" else (config.what,)
    claims: list[Claim] = []
    with _progress(len(names)) as (show, advance):
        say(f"device     {device()}")
        overview = draw_network(out)
        apart = columns.compare(config.seeds)
        lab = Lab(config.seeds, out, show, **schedule)
        for name in names:
            try:
                claims.append(import_module(f"claims.{MODULES.get(name, name).replace('-', '_')}").run(lab))
            except KeyboardInterrupt:
                told = f"{out}/ holds {len(claims)} of {len(names)} claims" if claims else f"{out}/ holds no claim yet"
                raise KeyboardInterrupt(told) from None
            _write(config, lab, claims, apart, overview, time.perf_counter() - started)
            print("\n" + document.block(claims[-1]), flush=True)
            advance()
    if len(claims) > 1:
        print("\n" + document.summary(claims))
    print()
    say(f"written    {out}/report.md ({time.perf_counter() - started:.0f} s)")
    return claims


def draw_network(out: Path) -> str:
    """Writes graph.svg of the lesson's network, and returns its summary."""
    net = chain(dense(3, 4), activations.tanh, dense(4, 1), activations.sigmoid)
    params, x = net.init(jax.random.key(0)), jnp.zeros((EXAMPLES, 3))
    durable.write(out / "graph.svg", draw(net, params, x, loss=binary_cross_entropy).encode())
    return summary(net, params, x)


def _write(
    config: LessonConfig, lab: Lab, claims: list[Claim], apart: dict[str, float], overview: str, seconds: float
) -> None:
    environment = report.environment()
    results = {
        "lesson": config.what,
        **environment,
        "seeds": lab.seeds,
        "learning_rates": lab.rates,
        "epochs": {"early": lab.early, "late": lab.late},
        "rows_and_columns": apart,
        "claims": {claim.name: _told(claim) for claim in claims},
        "seconds": round(seconds, 1),
    }
    report.write_results(lab.out, results)
    text = document.markdown(claims, environment, lab, apart, overview)
    durable.write(lab.out / "report.md", text.encode())


def _told(claim: Claim) -> dict[str, Any]:
    rows = [
        {
            "setting": row.setting,
            "quantity": row.quantity,
            "mean": row.interval.mean,
            "interval": [row.interval.low, row.interval.high],
            "claimed": row.claimed,
            "verdict": row.verdict,
            "by_seed": row.values,
        }
        for row in claim.rows
    ]
    told = {"source": claim.source, "says": claim.says, "verdict": claim.verdict, "why": claim.why}
    return {**told, "rows": rows, "rates": claim.rates, **claim.numbers}


@contextmanager
def _progress(claims: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Two functions: to show what goes on, and to say that a claim is done."""
    if not lively():
        yield lambda what: say(f"training   {what}", flush=True), lambda: None
        return
    from jaxnet.experiment.console.bar import Line

    with Line("claim", claims, "") as line:
        yield lambda what: line.update(line.task, words=(what,)), lambda: line.advance(line.task)
