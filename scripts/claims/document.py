"""What was found, for a terminal and as report.md."""

from typing import Any

from benchmarks import report

from claims.ensemble import Lab
from claims.verdict import CONFIDENCE, MARGIN, Claim, Row
from jaxnet.experiment.console import screen

SIGNS = {"holds": "+", "does not hold": "-", "not told apart": "?"}


def block(claim: Claim) -> str:
    """A claim for the terminal: what the lesson says, a line for each measured number, the verdict and why.

    Where there is no room for such a line, what was measured stands above its number.
    """
    by_setting: dict[str, list[Row]] = {}
    for row in claim.rows:
        by_setting.setdefault(row.setting, []).append(row)
    widths = [max(map(len, column)) for column in zip(*map(_cells, claim.rows), strict=True)]
    columns = screen.width()
    wide = columns is None or max(len(_line(row, widths)) for row in claim.rows) <= columns
    lines = [f"{claim.name}: {claim.verdict.upper()}", _paragraph(f"{claim.source}: {claim.says}")]
    for setting, rows in by_setting.items():
        lines.append(_paragraph(setting))
        lines += [_line(row, widths) if wide else _lines(row, widths) for row in rows]
    return "\n".join([*lines, _paragraph(f"why: {claim.why}")])


def summary(claims: list[Claim]) -> str:
    """A line for each claim."""
    rows = [(claim.name, claim.verdict, _count(claim)) for claim in claims]
    return screen.table(("claim", "verdict", "numbers as claimed"), rows)


def markdown(
    claims: list[Claim], environment: dict[str, Any], lab: Lab, columns: dict[str, float], overview: str
) -> str:
    """The report, to be read from top to bottom beside its figures."""
    parts = [
        _head(environment, lab),
        _findings(claims),
        _network(overview),
        _rows_and_columns(columns, lab),
        *(_section(claim, lab.rates) for claim in claims),
    ]
    return "\n\n".join(parts) + "\n"


def _paragraph(text):
    return screen.fill(text, indent=2, hanging=2)


def _cells(row: Row):
    return row.quantity, row.interval.text(), row.claimed, f"{SIGNS[row.verdict]} {row.verdict}"


def _line(row, widths):
    cells = (cell.ljust(width) for cell, width in zip(_cells(row), widths, strict=True))
    return f"    {'  '.join(cells)}".rstrip()


def _lines(row, widths):
    quantity, *cells = _cells(row)
    numbers = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths[1:], strict=True))
    return "\n".join((screen.fill(quantity, indent=4, hanging=2), screen.fill(numbers.rstrip(), indent=6, hanging=2)))


def _count(claim):
    return f"{sum(row.verdict == 'holds' for row in claim.rows)} of {len(claim.rows)}"


def _head(environment, lab):
    device, cores, jax_version = (environment[what] for what in ("device", "cores", "jax"))
    grid, most = ", ".join(f"{rate:g}" for rate in lab.rates), f"{100 * MARGIN:.0f}%"
    return f"""# The lesson, measured

Every claim of the lesson on two-layer networks as an experiment, over {lab.seeds} seeds. Device: {device},
{cores} cores; jax {jax_version}.

**How it was measured.** A seed decides how the data are split into training, validation and test part, how the
parameters start, and the order of the examples; two arms with the same seed differ in nothing but what is compared, so
differences are taken seed by seed. Training is plain stochastic gradient descent in batches of 32 unless a section says
otherwise. The learning rate of each arm is the one of {grid}
with the lowest validation loss at the time of the comparison. Where a claim is about learning, arms are compared early
(after {lab.early} epochs) and late (after {lab.late}).

**How it was judged.** Each row has a bound: more than 0 where the claim says that something is larger, and at most
{most} of the reference's loss where it says that something is no worse. A row *holds* where the {100 * CONFIDENCE:.0f}%
interval over the seeds (Student's t) lies on the claimed side, *does not hold* where it lies on the other, and is *not
told apart* where it lies across. A claim *holds* where all of its rows do, *does not hold* where none does, and else
*depends*. The rows are not corrected for their number: of those with nothing behind them, one in forty holds by
chance."""


def _findings(claims):
    rows = "\n".join(
        f"| [{claim.name}](#{claim.name}) | {claim.source}: {_escaped(claim.says)} | **{claim.verdict}** | "
        f"{_count(claim)} |"
        for claim in claims
    )
    return f"## Findings\n\n| | the lesson says | measured | rows that hold |\n|---|---|---|---|\n{rows}"


def _network(overview):
    return f"""## The network, and what flows back

The lesson's example: 3 inputs, 4 hidden neurons, 1 output. Above each edge what flows forward, below it the derivative
that flows back, without 1/m, which appears once, where signals become the gradients of parameters. Drawn from the
network itself by `jaxnet.draw`; the table is `jaxnet.summary`.

![The computational graph of the 3-4-1 network](graph.svg)

```
{overview}
```"""


def _rows_and_columns(columns, lab):
    worst = max(columns, key=columns.__getitem__)
    return f"""## Rows and columns

The lesson writes samples as columns, `Z1 = W1 X + b1` with `X (n_x, m)`; this library writes them as rows,
`Z1 = X W1^T + b1` with `X (m, n_x)`, as the JAX ecosystem does. Each is the other transposed, `(W X)^T = X^T W^T`: the
weights keep their shape `(out, in)`, `dW1 = (1/m) dZ1 X^T` becomes `dW1 = (1/m) dZ1^T X`, and `b` loses an axis. The
column form, written out in plain NumPy, beside ours on {lab.seeds} draws of the 3-4-1 network in float64:
{", ".join(columns)} are the same numbers; the largest
difference is {columns[worst]:.1e} of the largest value, in {worst}."""


def _section(claim: Claim, grid):
    rows = "\n".join(
        f"| {row.setting} | {_escaped(row.quantity)} | {row.interval.text()} | {row.claimed} | {row.verdict} |"
        for row in claim.rows
    )
    equations = "\n".join(claim.equations)
    moving = f"\n![the same, moving]({claim.figure}.gif)\n" if claim.moving else ""
    rates = "".join(f"\n- {line}" for line in _flat(claim.rates, grid))
    chosen = f"\n\nLearning rates chosen (* at an edge of the grid):\n{rates}" if rates else ""
    return f"""## {claim.name}

{claim.source}: *{claim.says}*. Measured: **{claim.verdict}**.

```
{equations}
```

{claim.method}

![{claim.says}]({claim.figure}.png)
{moving}
{claim.legend}

| setting | measured | mean and 95% interval | claimed | |
|---|---|---|---|---|
{rows}

{claim.why}{chosen}"""


def _flat(rates, grid, path=()):
    """A line for each setting: 'digits: tanh 0.3, sigmoid 1'."""
    if all(not isinstance(rate, dict) for rate in rates.values()):
        told = ", ".join(f"{name} {report.marked(rate, grid)}" for name, rate in rates.items())
        yield f"{': '.join(path)}: {told}" if path else told
        return
    for name, inner in rates.items():
        if isinstance(inner, dict):
            yield from _flat(inner, grid, (*path, name))
        else:
            yield f"{': '.join((*path, name))}: {report.marked(inner, grid)}"


def _escaped(text):
    return text.replace("|", "\\|")
