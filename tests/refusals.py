"""What tyro says of a command line that it does not understand."""

import re

import pytest

from jaxnet.experiment.options.parse import parse


def refused(config, line, capsys):
    """Its words on stderr, without their frame and in one line; nothing is on stdout, and the status is 2."""
    with pytest.raises(SystemExit) as end:
        parse(config, line)
    assert end.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    return words(told.err)


def words(box):
    """Of a framed message, in one line."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", box).split())
