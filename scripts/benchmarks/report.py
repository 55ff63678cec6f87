"""What experiments share: a sample's spread, the file of results and the style of the figures."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxnet
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.figures.canvas import GREY, picture, pyplot
from jaxnet.experiment.storage import durable
from jaxnet.experiment.storage.folder import write_json

BAND = 0.2
# The share of a figure's height that the line at its foot takes.
FOOT = 0.03
EDGE = "*: at an edge of its grid, so that a value beyond may be better."


class Spread(NamedTuple):
    """What is told of a number that was measured for several seeds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Spread":
        """The median and the range; infinite values count as larger than all others."""
        return cls(float(np.median(values)), float(np.min(values)), float(np.max(values)))

    def text(self, form: str) -> str:
        """As 'median [least-most]', with 'never' for what is infinite."""
        median, least, most = (format(value, form) if np.isfinite(value) else "never" for value in self)
        return "never" if median == least == "never" else f"{median} [{least}-{most}]"


def make_folder(out: Path, *, overwrite: bool) -> None:
    """Makes the folder for the results.

    Raises:
      BadInput: when it exists already and is not to be overwritten, or cannot be made.
    """
    if out.exists() and not overwrite:
        raise BadInput(f"--out {out}: exists already; name another folder or give --overwrite")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}") from None


def environment() -> dict[str, Any]:
    """On what the numbers were measured, and with which versions."""
    return {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "processor": _processor(),
        "jax": jax.__version__,
        "jaxnet": jaxnet.__version__,
    }


def _processor():
    """The processor's name as Linux tells it; elsewhere its kind."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_results(out: Path, results: dict[str, Any]) -> None:
    """Writes results.json; numbers that are not finite become null."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", _plain(results))


def marked(number: float, grid: Sequence[float]) -> str:
    """The number, with a * at an edge of its grid; `EDGE` says so below the table."""
    return f"{number:g}{'*' if number in (min(grid), max(grid)) else ''}"


def subplots(columns: int, rows: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure in the style of the library's others, with its panels in columns and rows."""
    size = (4.9 * columns, 4.4) if rows == 1 else (3.9 * columns, 3.1 * rows)
    return pyplot().subplots(rows, columns, **{"figsize": size, "layout": "constrained", **options})


def draw_runs(axes: Any, runs: np.ndarray, **line: Any) -> None:
    """The median over the runs (seeds, epochs + 1) against the epoch, in a band from the least to the most."""
    epochs = np.arange(runs.shape[1])
    drawn = np.where(np.isfinite(runs), runs, np.nan)
    axes.fill_between(epochs, drawn.min(axis=0), drawn.max(axis=0), color=line["color"], alpha=BAND, lw=0)
    axes.plot(epochs, np.median(drawn, axis=0), **line)


def save(figure: Any, out: Path, name: str) -> None:
    """Writes NAME.png and NAME.svg, the same for the same numbers, with a line of the device and the versions."""
    plt = pyplot()
    figure.get_layout_engine().set(rect=(0, FOOT, 1, 1 - FOOT))
    figure.text(0.995, 0.005, _origin(), ha="right", va="bottom", fontsize=6, color=GREY)
    with plt.rc_context({"svg.hashsalt": name}):
        durable.write(out / f"{name}.png", picture(figure, "png", dpi=150))
        # The layout is found once, for both.
        figure.set_layout_engine("none")
        durable.write(out / f"{name}.svg", picture(figure, "svg", metadata={"Date": None}))
    close(figure)


def _origin():
    """Where a figure's numbers come from, in a line."""
    of = environment()
    device = f"{of['cores']} cores, {of['processor']}" if jax.default_backend() == "cpu" else of["device"]
    return f"{device}; jax {of['jax']}, jaxnet {of['jaxnet']}"


def close(figure: Any) -> None:
    """Frees a figure's memory."""
    pyplot().close(figure)


def _plain(value):
    """What JSON can say of it."""
    if isinstance(value, Spread):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
