"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from jaxnet.experiment.console import screen
from jaxnet.experiment.training.position import Epoch

PLAIN_LINES = 20
# Terminals that cannot draw over a line, as Rich has it.
DUMB = ("dumb", "unknown")

Show = Callable[[Epoch], None]


def lively() -> bool:
    """Whether standard output is a terminal on which a line can change."""
    return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in DUMB


@contextmanager
def progress(epochs: int, metric: str) -> Iterator[Show]:
    """A function to call with each epoch as it ends: a bar with loss and metric, or about twenty lines in all."""
    if lively():
        with _bar(epochs, metric) as show:
            yield show
    else:
        yield _Lines(epochs, metric)


class _Lines:
    """Plain lines, each with the time so far, and what is left at the pace since the first epoch that was seen."""

    def __init__(self, epochs: int, metric: str) -> None:
        self.epochs, self.metric = epochs, metric
        self.first: Epoch | None = None

    def __call__(self, epoch: Epoch) -> None:
        """Prints some of the epochs."""
        self.first = self.first or epoch
        if epoch.number % max(1, self.epochs // PLAIN_LINES) != 0 and epoch.number not in (1, self.epochs):
            return
        count = f"epoch {epoch.number:>{len(str(self.epochs))}}/{self.epochs}"
        seen, left = epoch.number - self.first.number, self.epochs - epoch.number
        time = _clock(epoch.seconds)
        if seen > 0 and left:
            time += f" eta {_clock((epoch.seconds - self.first.seconds) / seen * left)}"
        lines = [f"{count}  {words}  {time}" for words in _words(epoch, self.metric)]
        columns = screen.width()
        fitting = [line for line in lines if columns is None or len(line) <= columns]
        print((fitting or lines[-1:])[0], flush=True)


@contextmanager
def _bar(epochs, metric):
    from jaxnet.experiment.console.bar import Line

    with Line("epoch", epochs, "compiling") as line:
        yield lambda epoch: line.show(epoch.number, *_words(epoch, metric))


def _words(epoch, metric):
    """What is told of an epoch, in fewer and fewer words."""
    accuracy = f"{100 * epoch.validation_metric:.1f}%"
    value = f"{metric} {accuracy if metric == 'accuracy' else f'{epoch.validation_metric:.4g}'}"
    loss, brief = f"loss {epoch.train_loss:.4f}", accuracy if metric == "accuracy" else value
    spent = "" if epoch.epsilon is None else f"  epsilon {epoch.epsilon:.3g}"
    return (
        f"{loss}  validation loss {epoch.validation_loss:.4f}  {value}{spent}",
        f"{loss}  validation {epoch.validation_loss:.4f}  {brief}{spent}",
        f"{loss}  {brief}{spent}",
        f"{loss}{spent}",
    )


def _clock(seconds):
    return str(timedelta(seconds=round(seconds)))
