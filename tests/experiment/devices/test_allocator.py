"""Whether what is freed is there again without a page fault: in processes of their own, since it is for good."""

import platform
import subprocess
import sys

import pytest

from jaxnet.experiment.commands import train

FAULTS = """
import resource
from threading import Thread
import numpy as np
{keep}

def fill():
    np.empty(80 * 2**20, np.uint8).fill(1)

def fill_in_a_thread():
    thread = Thread(target=fill)
    thread.start()
    thread.join()

def faults(fill):
    fill()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(fill), faults(fill_in_a_thread))
"""
KEEP = "from jaxnet.experiment.devices.allocator import keep_freed_memory; assert keep_freed_memory()"


def faults(keep):
    """How many the second of two arrays of 80 MB takes, whose first is gone; and in threads of their own."""
    program = [sys.executable, "-c", FAULTS.format(keep=keep)]
    ran = subprocess.run(program, capture_output=True, text=True, check=True)
    return [int(word) for word in ran.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's options")
def test_an_array_is_made_where_one_was_freed():
    # Pages are of 4 kB, or of 2 MB. A thread has some of its own.
    assert all(number >= 35 for number in faults(""))
    assert all(number < 30 for number in faults(KEEP))


@pytest.mark.parametrize(
    ("options", "keeps"),
    [
        ([], False),
        (["--model", "cnn"], True),
        (["--hidden", "2048", "2048"], True),
        (["--hidden", "1024", "1024", "--batch-size", "1024"], False),
        (["--hidden", "1024", "1024", "--batch-size", "4096"], True),
        (["--hidden"], False),
    ],
    ids=str,
)
def test_a_run_of_what_is_large_asks_for_it(options, keeps, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "keep_freed_memory", lambda: asked.append(True))
    monkeypatch.setattr(train, "run", lambda config: {})
    train.main([*options, "--no-compilation-cache"])
    assert asked == [True] * keeps
