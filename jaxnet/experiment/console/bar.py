"""A line on a terminal that tells how far something is: where there is no room for all of it, it has no bar first."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

BAR = 20
# How many versions of its words are tried.
VERSIONS = 4


class Line(Progress):
    """Rich's progress line for one task: as much of it as the terminal has room for, and never half of a number.

    Args:
      what: is counted, as 'epoch'.
      total: how many of them there are.
      words: what is told first; see `show`.
      options: of `rich.progress.Progress`.
    """

    def __init__(self, what: str, total: int, *words: str, **options: Any) -> None:
        count, time = (TextColumn(what), MofNCompleteColumn()), _Time()
        told = [_Words(version) for version in range(VERSIONS)]
        self.forms: Sequence[tuple[ProgressColumn, ...]] = (
            (*count, BarColumn(bar_width=BAR), time, told[0]),
            *((*count, time, words) for words in told),
            (*count, TimeElapsedColumn(), told[-1]),
        )
        # What is printed above the line comes as it is.
        console = Console(highlight=False, markup=False, soft_wrap=True)
        super().__init__(*self.forms[0], **{"console": console, **options})
        self.task = self.add_task("", total=total, words=words)

    def show(self, completed: int, *words: str) -> None:
        """How many are done, and what is told: the same in fewer and fewer words; the first that fit appear."""
        self.update(self.task, completed=completed, words=words)

    def stop(self) -> None:
        """The line stays as it is."""
        self.stop_task(self.task)
        super().stop()

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """The first of the forms that fits; Rich asks for every frame, since a terminal may change its width."""
        tasks = list(tasks)
        if not tasks:  # the first time, when Rich has no console yet
            return super().make_tasks_table(tasks)
        unbounded = self.console.options.update(width=10**4)
        for columns in self.forms:
            self.columns = columns
            table = super().make_tasks_table(tasks)
            if self.console.measure(table, options=unbounded).maximum <= self.console.width:
                break
        return table


class _Words(ProgressColumn):
    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__()

    def render(self, task: Task) -> Text:
        words = task.fields["words"]
        return Text(words[min(self.version, len(words) - 1)])


class _Time(ProgressColumn):
    """The time so far and, while it goes on, the estimate of what is left, as '0:00:12 eta 0:01:30'."""

    # Seconds between two estimates, so that they can be read.
    max_refresh = 0.5

    def __init__(self) -> None:
        self.so_far, self.left = TimeElapsedColumn(), TimeRemainingColumn()
        super().__init__()

    def render(self, task: Task) -> Text:
        so_far = self.so_far.render(task)
        if task.finished or task.stop_time is not None or task.time_remaining is None:
            return so_far
        return Text.assemble(so_far, " eta ", self.left.render(task))
