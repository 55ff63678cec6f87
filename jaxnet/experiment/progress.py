"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from jaxnet.experiment.loop import Epoch

PLAIN_LINES = 20


Show = Callable[[Epoch], None]


@contextmanager
def progress(epochs: int, metric: str) -> Iterator[Show]:
    """A function to call with each epoch as it ends: a bar with loss and metric, or about twenty lines in all."""
    if sys.stdout.isatty():
        with _bar(epochs, metric) as show:
            yield show
    else:
        yield partial(_print_some, epochs, metric)


def _print_some(epochs, metric, epoch):
    if epoch.number % max(1, epochs // PLAIN_LINES) == 0 or epoch.number in (1, epochs):
        print(f"epoch {epoch.number:>{len(str(epochs))}}/{epochs}  {_values(epoch, metric)}", flush=True)


@contextmanager
def _bar(epochs, metric):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("compiling", total=epochs)
        yield lambda epoch: bar.update(task, completed=epoch.number, description=_values(epoch, metric))


def _values(epoch, metric):
    value = f"{100 * epoch.validation_metric:.1f}%" if metric == "accuracy" else f"{epoch.validation_metric:.4g}"
    return f"loss {epoch.train_loss:.4f}  validation loss {epoch.validation_loss:.4f}  {metric} {value}"
