"""What is seen of a run while it goes on, on terminals of several widths and in a pipe."""

import io
import re

import pytest
from rich.console import Console

from jaxnet.experiment.commands import progress
from jaxnet.experiment.commands.progress import _words
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.bar import Line
from jaxnet.experiment.training.position import Epoch

EPOCH = Epoch(256, 0.12345, 0.23456, 0.978, 12.0)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def line(width, *, epochs=3000, epoch=EPOCH, metric="accuracy", end=False):
    """The line after 256 epochs, of which the first took 10 seconds and each of the others a 10th of one."""
    clock = Clock()
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
    shown = Line("epoch", epochs, "compiling", console=console, get_time=clock, auto_refresh=False)
    shown.start_task(shown.task)
    for number in (1, 251, epochs if end else epoch.number):
        clock.now = 10 + (number - 1) * 0.1
        shown.show(number, *_words(epoch, metric))
    with console.capture() as captured:
        console.print(shown.get_renderable())
    return captured.get()


@pytest.mark.parametrize(("width", "expected"), [
    (120, "epoch  256/3000 ━╸                   0:00:35 eta 0:04:35 "
          "loss 0.1235  validation loss 0.2346  accuracy 97.8%"),
    (100, "epoch  256/3000 0:00:35 eta 0:04:35 loss 0.1235  validation loss 0.2346  accuracy 97.8%"),
    (80, "epoch  256/3000 0:00:35 eta 0:04:35 loss 0.1235  validation 0.2346  97.8%"),
    (60, "epoch  256/3000 0:00:35 eta 0:04:35 loss 0.1235  97.8%"),
    (50, "epoch  256/3000 0:00:35 eta 0:04:35 loss 0.1235"),
    (40, "epoch  256/3000 0:00:35 loss 0.1235"),
])  # fmt: skip
def test_the_bar_goes_first_and_epoch_loss_and_time_stay(width, expected):
    assert line(width) == f"{expected}\n"


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("epochs", [300, 10**6])
@pytest.mark.parametrize(("metric", "value"), [("accuracy", 1.0), ("rmse", 1.2345e-7), ("rmse", 98765.4321)])
def test_no_number_is_cut_off(width, epochs, metric, value):
    (shown,) = line(width, epochs=epochs, epoch=EPOCH._replace(validation_metric=value), metric=metric).splitlines()
    assert len(shown) <= width
    count = f"{256:>{len(str(epochs))}}/{epochs}"
    assert re.match(rf"epoch {count} 0:00:35 eta \d+:\d\d:\d\d loss 0\.1235( |$)", shown)
    numbers = ("0.1235", "0.2346", "100.0%" if metric == "accuracy" else f"{value:.4g}")
    assert all(word in numbers for word in shown.split("loss ")[1].split() if word[0].isdigit())


def test_at_the_end_nothing_is_left():
    assert " 0:05:09 loss" in line(120, end=True)


def test_nor_where_a_run_stops_early():
    clock = Clock()
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    with Line("epoch", 100, "compiling", console=console, get_time=clock, auto_refresh=False) as shown:
        for clock.now in (1.0, 2.0, 3.0):
            shown.show(int(clock.now), "loss 0.1")
    assert console.file.getvalue().splitlines()[-2].endswith("0:00:03 loss 0.1")


def test_before_the_first_epoch_it_is_compiling():
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    shown = Line("epoch", 100, "compiling", console=console, get_time=Clock(), auto_refresh=False)
    with console.capture() as captured:
        console.print(shown.get_renderable())
    assert captured.get() == "epoch   0/100                      0:00:00 compiling\n"


@pytest.mark.parametrize(("width", "lines"), [
    (None, ["epoch   1/100  loss 0.1235  validation loss 0.2346  accuracy 97.8%  0:00:05",
            "epoch   5/100  loss 0.1235  validation loss 0.2346  accuracy 97.8%  0:00:07 eta 0:00:48"]),
    (60, ["epoch   1/100  loss 0.1235  97.8%  0:00:05",
          "epoch   5/100  loss 0.1235  97.8%  0:00:07 eta 0:00:48"]),
])  # fmt: skip
def test_elsewhere_some_epochs_have_a_line_each(width, lines, monkeypatch, capsys):
    """Of 100 those whose number is a multiple of 5, and the first."""
    monkeypatch.setattr(screen, "width", lambda stream=None: width)
    with progress.progress(100, "accuracy") as show:
        for number in range(1, 10):
            show(EPOCH._replace(number=number, seconds=4.5 + number / 2))
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize(("term", "lively"), [("xterm", True), ("dumb", False), ("DUMB", False), ("unknown", False)])
def test_a_line_changes_on_a_terminal_that_can(term, lively, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(progress.sys, "stdout", terminal)
    monkeypatch.setenv("TERM", term)
    assert progress.lively() == lively
    terminal.isatty = lambda: False
    assert not progress.lively()
