"""What all pictures share: colours, Matplotlib as it is used here, short names, and how a figure is saved."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxnet.experiment.storage import durable

# Okabe and Ito's colours, told apart by colour-blind readers; they differ in lightness, so in grey too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#666666"
CLASS_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
# Thin lines in yellow are lost on white.
LINE_COLOURS = [GREY if colour == "#F0E442" else colour for colour in CLASS_COLOURS]
LINE_STYLES = ["-", "--", ":", "-."]
# One fewer than the colours, so that no two of the first 56 look the same.
MARKERS = ["o", "^", "s", "D", "v", "P", "X"]
# An axis over fewer decades than these two powers of ten is numbered at 1, 2 and 5 of each.
DECADES = 100


def get_ready() -> None:
    """Loads Matplotlib, for a thread that does so ahead of the drawing, which tells what goes wrong."""
    with contextlib.suppress(Exception):
        pyplot()


def pyplot() -> Any:
    """Matplotlib's interface, drawing into files."""
    os.environ["MPLBACKEND"] = "agg"
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "savefig.dpi": 150,
        }
    )
    return plt


def log_axis(axis: Any) -> None:
    """Makes an axis (`axes.xaxis` or `axes.yaxis`) logarithmic, with plain numbers: 1, 2, 5 where decades are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < DECADES * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def short(name: str, most: int = 18) -> str:
    """A name that fits, with both its ends, as text: a $ in it begins no formula."""
    fits = name if len(name) <= most else f"{name[: most - 8]}…{name[-7:]}"
    return fits.replace("$", r"\$")


def short_names(names: Sequence[str], most: int = 18) -> list[str]:
    """Names that fit, numbered where some would look the same."""
    fitting = [short(name, most) for name in names]
    return fitting if len(set(fitting)) == len(names) else [f"{k}. {name}" for k, name in enumerate(fitting, 1)]


def save(plt: Any, figure: Any, path: Path) -> None:
    """Writes a figure into a file, and lets go of it."""
    kind = path.suffix[1:].lower()
    with letters_as_boxes():
        if kind == "png" and (layout := figure.get_layout_engine()) is not None:
            # Laid out here, it is drawn once: savefig draws it once more to lay it out.
            figure.set_dpi(plt.rcParams["savefig.dpi"])
            layout.execute(figure)
            figure.set_layout_engine(None)
        durable.write(path, picture(figure, kind))
    plt.close(figure)


def picture(figure: Any, kind: str, **options: Any) -> bytes:
    """A figure as a file of that kind ('png', 'svg', 'pdf') holds it; options are those of Matplotlib's savefig."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, **options)
    return file.getvalue()


@contextlib.contextmanager
def letters_as_boxes() -> Iterator[None]:
    """Letters that no installed font has are drawn as boxes, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
