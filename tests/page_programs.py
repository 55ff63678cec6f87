"""The programs of a page, run one after the other in one room, and what is written below each."""

import re
from pathlib import Path

import numpy as np

PAGES = Path(__file__).parents[1] / "docs" / "how-to"
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]\d+)?")


def programs_of(page):
    """Of each Python block its program and what is written in the next block, or None where that is a program too."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (PAGES / page).read_text(), re.DOTALL | re.MULTILINE)
    following = [*blocks[1:], ("python", "")]
    return [
        (program, None if after == "python" else printed)
        for (language, program), (after, printed) in zip(blocks, following, strict=True)
        if language == "python"
    ]


def run(page, capsys, units=0, names=None, blocks=slice(None)):
    """Runs the page's programs and compares what they print with what is written; returns their names.

    Args:
      units: by how many units in their last written place numbers may differ, which training carries along.
      names: what earlier programs of the page left.
      blocks: which of the programs.
    """
    names = {} if names is None else names
    for program, written in programs_of(page)[blocks]:
        exec(program, names)
        printed = capsys.readouterr().out
        assert_as_written(printed, "" if written is None else written, units)
    return names


def assert_as_written(printed, written, units):
    """The same words, and numbers that differ by at most so many units in their last written place."""
    assert _words(printed) == _words(written), f"printed:\n{printed}"
    for actual, expected in zip(NUMBER.findall(printed), NUMBER.findall(written), strict=True):
        place = 10.0 ** -len(expected.partition(".")[2])
        np.testing.assert_allclose(float(actual), float(expected), rtol=0, atol=(units + 1e-6) * place, err_msg=printed)


def _words(text):
    return NUMBER.sub("#", text).split()
