"""What is printed on terminals of several widths, and into a pipe."""

import re

import numpy as np
import pytest
from claims import document, verdict

from jaxnet.experiment.console import screen

HEADER = ("run", "learning\nrate", "epochs", "best\nvalidation\nloss (epoch)", "test\naccuracy\n(epoch)", "seconds")
ROWS = (
    ("digits-1", "0.001", "1000/1000", "0.0621 (917)", "97.77% (1000)", "1234.5"),
    ("a-run-of-a-longer-name", "default", "2/2", "-1.234e-05 (1)", "100.00% (2)", "3.0"),
)


@pytest.fixture
def columns(monkeypatch):
    """Sets the width of the terminal; None where there is none."""

    def of(width):
        monkeypatch.setattr(screen, "width", lambda stream=None: width)

    return of


def test_the_width_is_that_of_a_terminal_and_elsewhere_there_is_none(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(screen.sys.stdout, "isatty", lambda: True, raising=False)
    assert screen.width() == 60
    assert screen.width(screen.sys.stderr) is None


def test_a_line_goes_on_below_what_it_says_and_words_stay_whole(columns):
    text = "data       digits: 1258 training, 180 validation, 359 test examples of /a/very/long/path/of-64/features.csv"
    columns(40)
    assert screen.fill(text, hanging=screen.LABEL).splitlines() == [
        "data       digits: 1258 training, 180",
        "           validation, 359 test examples",
        "           of",
        "           /a/very/long/path/of-64/features.csv",
    ]
    columns(None)
    assert screen.fill(text, indent=2, hanging=screen.LABEL) == f"  {text}"


def test_what_is_said_goes_where_it_is_told(columns, capsys):
    columns(20)
    screen.say("written    runs/digits-1/ and more", screen.sys.stderr)
    screen.say("device     cpu")
    out, err = capsys.readouterr()
    assert err == "written\n           runs/digits-1/\n           and more\n"
    assert out == "device     cpu\n"


def test_a_pipe_gets_every_row_whole(columns):
    whole = [
        "                                                       best           test",
        "                        learning                 validation       accuracy",
        "run                     rate         epochs    loss (epoch)        (epoch)  seconds",
        "digits-1                0.001     1000/1000    0.0621 (917)  97.77% (1000)   1234.5",
        "a-run-of-a-longer-name  default         2/2  -1.234e-05 (1)    100.00% (2)      3.0",
    ]
    columns(None)
    assert screen.table(HEADER, ROWS, texts=2).splitlines() == whole
    columns(len(whole[-1]))
    assert screen.table(HEADER, ROWS, texts=2).splitlines() == whole


def test_columns_that_do_not_fit_come_below_beside_the_first_once_more(columns):
    columns(60)
    assert screen.table(HEADER, ROWS, texts=2).splitlines() == [
        "                                                       best",
        "                        learning                 validation",
        "run                     rate         epochs    loss (epoch)",
        "digits-1                0.001     1000/1000    0.0621 (917)",
        "a-run-of-a-longer-name  default         2/2  -1.234e-05 (1)",
        "",
        "                                 test",
        "                             accuracy",
        "run                           (epoch)  seconds",
        "digits-1                97.77% (1000)   1234.5",
        "a-run-of-a-longer-name    100.00% (2)      3.0",
    ]


def test_texts_and_headers_are_broken_between_words_first(columns):
    columns(26)
    header, rows = ("what was timed", "seconds for each"), (("import jax, optax", "0.69 [0.68-0.71]"),)
    assert screen.table(header, rows).splitlines() == [
        "what was",
        "timed     seconds for each",
        "import    0.69 [0.68-0.71]",
        "jax,",
        "optax",
    ]


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_no_number_is_broken_or_lost_at_any_width(columns, width):
    columns(width)
    lines = screen.table(HEADER, ROWS, texts=2).splitlines()
    assert max(map(len, lines)) <= width
    shown = " ".join(lines)
    for row in ROWS:
        for cell in row[1:]:
            assert re.search(rf"(?<!\S){re.escape(cell)}(?!\S)", shown), cell
    for word in " ".join(HEADER).split():
        assert word in shown


@pytest.mark.parametrize("width", [None, 120, 80, 60])
def test_a_claim_of_the_lesson_fits_and_has_every_row(columns, width):
    columns(width)
    setting, longest = "digits, 64-32-10, 3 epochs", "ReLU: training loss, large W1 less suited (nats)"
    rows = (
        verdict.more(setting, longest, np.array([-4e3, 2e3, 1e3])),
        verdict.at_most(setting, "tanh: the same", np.array([1.0, 1.5, 2.0]), 0.000183),
    )
    claim = verdict.Claim("saturation", "S14 (b)", "learn slowly " * 10, (), "", rows, "on digits " * 20, "", "", {})
    lines = document.block(claim).splitlines()
    assert width is None or max(map(len, lines)) <= width
    assert lines[0] == "saturation: DOES NOT HOLD"
    words = " ".join(" ".join(lines).split())
    for row in rows:
        cells = (row.quantity, row.interval.text(), row.claimed, f"{document.SIGNS[row.verdict]} {row.verdict}")
        assert " ".join(cells) in words
    # On a line of their own only where they have to be.
    assert any(line.strip() == longest for line in lines) == (width in (80, 60))
