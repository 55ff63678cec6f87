"""What is printed, no wider than the screen: a terminal breaks lines anywhere, also inside a number, and this does not.

A file or a pipe gets every line and every row whole, for `grep` and the like, whatever the width.
"""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from io import StringIO
from typing import Any, NamedTuple

# Between the columns of a table.
GAP = 2
LEFT_OUT = "..."
# Where a line goes on after 'device     ', 'data       ' and the like.
LABEL = 11
# Of a terminal's width, what a text in a table has without being broken: one in so many columns.
SHARE = 3


def width(stream: Any = None) -> int | None:
    """Of the terminal that is written to, by default through standard output; None where it is none."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def say(text: str, stream: Any = None, *, flush: bool = False) -> None:
    """Prints a line such as 'device     cpu'; where it goes on below, it does so under the 'cpu'."""
    print(fill(text, hanging=LABEL, stream=stream), file=stream, flush=flush)


def fill(text: str, indent: int = 0, hanging: int = 0, stream: Any = None) -> str:
    """A line, on a terminal broken between words where it has to be; words stay whole.

    Args:
      text: the line.
      indent: spaces before it.
      hanging: spaces more before what goes on below.
      stream: where it will be printed; standard output by default.
    """
    columns = width(stream)
    if columns is None:
        return " " * indent + text
    return textwrap.fill(
        text,
        columns,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Rows under a header, with no number broken or cut off.

    Where a terminal is too narrow, texts and headers are broken between words; columns for which there is no room even
    so come below, beside the first column once more.

    Args:
      header: the columns' names.
      rows: their cells.
      texts: how many columns, the first ones, hold texts, which are set to the left; the others hold numbers.
    """
    columns = [_Column(name, cells, text=k < texts) for k, (name, *cells) in enumerate(zip(header, *rows, strict=True))]
    screen = width()
    if screen is None:
        return _beside_each_other(columns, [column.most for column in columns])
    blocks = [columns[:1]]
    for column in columns[1:]:
        if sum(each.least(screen) + GAP for each in blocks[-1]) + column.least(screen) > screen and len(blocks[-1]) > 1:
            blocks.append(columns[:1])
        blocks[-1].append(column)
    return "\n\n".join(_beside_each_other(block, _widths(block, screen)) for block in blocks)


def shortened(texts: Sequence[str]) -> list[str]:
    """On a terminal texts without what is in the middle of long ones, so that in a table none is broken.

    More than that is shown where they would look the same.
    """
    columns, longest = width(), max(map(_length, texts), default=0)
    for most in range(longest if columns is None else columns // SHARE, longest):
        short = [_without_middle(text, most) for text in texts]
        if len(set(short)) == len(set(texts)):
            return short
    return list(texts)


def _without_middle(text, most):
    end = 2 * (most - len(LEFT_OUT)) // 3
    return text if _length(text) <= most else f"{text[: most - len(LEFT_OUT) - end]}{LEFT_OUT}{text[-end:]}"


class _Column(NamedTuple):
    name: str
    cells: list[str]
    text: bool

    @property
    def most(self) -> int:
        """As wide as it is without breaking anything."""
        return max(_length(line) for text in (self.name, *self.cells) for line in text.split("\n"))

    def least(self, screen: int) -> int:
        """As narrow as it may be: a number's longest cell, also a text's up to a third of the screen.

        Of longer texts the longest word, up to half of the screen.
        """
        longest = max(map(_length, (*self.name.split(), *self.cells)), default=0)
        if not self.text or longest <= screen // SHARE:
            return longest
        return min(max(map(_length, " ".join((self.name, *self.cells)).split())), screen // 2)


def _length(text):
    from rich.cells import cell_len

    return cell_len(text)


def _widths(columns, screen):
    """The least of each, and what is left of the screen for the first that can do with more."""
    widths = [column.least(screen) for column in columns]
    left = screen - sum(widths) - GAP * (len(widths) - 1)
    for k, column in enumerate(columns):
        more = max(0, min(column.most - widths[k], left))
        widths[k], left = widths[k] + more, left - more
    return widths


def _beside_each_other(columns, widths):
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column, wide in zip(columns, widths, strict=True):
        table.add_column(column.name, justify="left" if column.text else "right", width=wide, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    # A file of its own: `capture` flushes standard output, and ends the program where nobody reads that.
    text = StringIO()
    console = Console(
        file=text, width=sum(widths) + GAP * len(widths), markup=False, emoji=False, highlight=False, color_system=None
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
