"""The picture of the ratios: a panel for each network, a row for each contestant."""

import math
from collections.abc import Mapping
from pathlib import Path

from benchmarks import report
from benchmarks.contest.contestants import CONTESTANTS, OURS
from benchmarks.contest.problems import NETS, NetName
from benchmarks.contest.standings import MEASURED, Standing
from jaxnet.experiment.figures.canvas import BLUE, GREY, ORANGE

COLUMNS = 3
# Told apart by colour, and in grey by marker and lightness.
ON_JAX = {"color": BLUE, "marker": "o", "label": "on JAX"}
OTHER = {"color": ORANGE, "marker": "D", "label": "not on JAX"}
NOT_ON_JAX = ("torch", "sklearn", "numpy")
# A number's own ground hides the line of our time behind it.
GROUND = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
BESIDE = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "size": 8, "bbox": GROUND}


def draw(out: Path, standings: Mapping[NetName, Mapping[str, Standing]]) -> None:
    """Writes training.png and .svg."""
    names = [name for name in CONTESTANTS if any(name in of for of in standings.values())]
    columns = min(COLUMNS, len(standings))
    rows = math.ceil(len(standings) / columns)
    size = (2.3 + 2.9 * columns, 0.9 + (1.0 + 0.24 * len(names)) * rows)
    figure, panels = report.subplots(columns, rows, figsize=size, sharey=True, squeeze=False)
    for axes, (net, of) in zip(panels.flat, standings.items(), strict=False):
        _draw_net(axes, of, names)
        axes.set(title=f"{net}, batch {NETS[net].batch}", xlabel="time of a step / jaxnet's")
    for axes in panels.flat[len(standings) :]:
        axes.axis("off")
    panels[0, 0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    handles = {handle.get_label(): handle for axes in panels.flat for handle in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=[*handles.values()], loc="outside lower center", ncols=4, frameon=False)
    report.save(figure, out, "training")


def _draw_net(axes, standings, names):
    """The medians as dots on lines from the least to the most, all over our median."""
    axes.axvline(1, color=GREY, lw=1, zorder=0, label="jaxnet")
    ends = [1.0]
    for row, (name, standing) in enumerate((name, standings.get(name)) for name in names):
        if standing is None:
            continue
        if standing.ratio is None:
            axes.annotate("no ratio" if standing.state == MEASURED else standing.state, (1, row), color=GREY, **BESIDE)
            continue
        ours = standings[OURS].microseconds.median
        least, most = standing.microseconds.least / ours, standing.microseconds.most / ours
        style = OTHER if CONTESTANTS[name].package in NOT_ON_JAX else ON_JAX
        axes.plot([least, most], [row, row], color="black", lw=1.5, label="least to most")
        axes.plot(standing.ratio, row, ls="", ms=6, **style)
        number = f"{standing.ratio:.2f}" if standing.ratio < 10 else f"{standing.ratio:.0f}"
        axes.annotate(number, (most, row), **BESIDE)
        ends += [least, most]
    axes.grid(axis="y", color=GREY, alpha=0.2, lw=0.6)
    _scale(axes, min(ends), max(ends))


def _scale(axes, least, most):
    """A logarithmic axis with room for the numbers beside the dots, labelled in plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    least, most = least / 1.15, most * max(1.6, (most / least) ** 0.25)
    axes.set(xscale="log", xlim=(least, most))
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if most / least > 50 else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
