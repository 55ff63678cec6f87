"""The list of the runs in a folder."""

import os

import pytest
from short_runs import write

from jaxnet.experiment.commands.runs import RunsConfig, runs
from jaxnet.experiment.console.errors import BadInput


def listed(capsys, folder):
    """What is printed, cell by cell, below the header."""
    runs(RunsConfig(str(folder)))
    return [line.split() for line in capsys.readouterr().out.splitlines()[3:]]


def test_the_runs_in_a_folder_and_below_are_listed_with_their_scores_the_newest_last(tmp_path, capsys):
    newest = write(tmp_path / "newest", data="iris")
    write(tmp_path / "older" / "deep", finished=False, data=str(tmp_path / "table.csv"))
    write(tmp_path / "numbers", metric="rmse", data="diabetes")
    for age, name in enumerate(("newest", "older/deep", "numbers")):
        os.utime(tmp_path / name / "metrics.jsonl", (1e9 - age, 1e9 - age))
    expected = [
        "numbers diabetes mlp adamw 4/4 0.125 (3) 0.875 0.75 (4)",
        "older/deep table.csv mlp adamw 4/4 0.125 (3) 87.50% -",
        "newest iris mlp adamw 4/4 0.125 (3) 87.50% 75.00% (4)",
        "- running, or cut short",
    ]
    assert listed(capsys, tmp_path) == [line.split() for line in expected]
    assert listed(capsys, newest) == [[str(newest), *expected[2].split()[1:]]]


def test_a_run_that_cannot_be_read_is_a_note(tmp_path, capsys):
    write(tmp_path / "one", data="iris")
    metrics = write(tmp_path / "two") / "metrics.jsonl"
    metrics.write_text("nothing\n")
    _, note = listed(capsys, tmp_path)
    assert " ".join(note) == (
        f"note {metrics}, line 1: expected epoch 1 with train_loss, validation_loss, validation_accuracy or "
        "validation_rmse, and seconds; restore the file, or leave the run out"
    )


def test_a_folder_without_runs_is_one_line(tmp_path):
    with pytest.raises(BadInput) as error:
        runs(RunsConfig(str(tmp_path)))
    assert str(error.value) == f"{tmp_path}: holds no run; expected folders that `jaxnet train` wrote"
    with pytest.raises(BadInput) as error:
        runs(RunsConfig(str(tmp_path / "nowhere")))
    assert str(error.value) == f"{tmp_path}/nowhere: no such folder; expected one that holds runs of `jaxnet train`"
