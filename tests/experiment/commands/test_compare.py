"""Runs beside each other: the table, the figure, and what cannot be compared."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from short_runs import LOSSES, write

from jaxnet.experiment.commands.compare import CompareConfig, compare, distinguishing_names
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.figures import canvas, curves
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import folder
from jaxnet.experiment.storage.history import read
from jaxnet.experiment.training.position import Epoch


def compared(capsys, tmp_path, *folders, out="figure.svg"):
    """What is printed, without the line that names the figure."""
    compare(CompareConfig(tuple(map(str, folders)), str(tmp_path / out)))
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"written    {tmp_path / out}"
    return lines


def refusal(*folders, out="figure.svg"):
    with pytest.raises(BadInput) as error:
        compare(CompareConfig(tuple(map(str, folders)), out))
    return str(error.value)


@pytest.fixture
def drawn(monkeypatch):
    """The figures, which stay as they were saved."""
    kept = []
    save = canvas.save

    def saving(plt, figure, path):
        kept.append(figure)
        save(plt, figure, path)

    monkeypatch.setattr(curves, "save", saving)
    return kept


@pytest.mark.usefixtures("optax_promotion", "without_figures")
def test_real_runs_are_compared(tmp_path, capsys):
    for seed in (0, 1):
        run(TrainConfig(data="iris", epochs=2, hidden=(4,), seed=seed, out=str(tmp_path / f"seed-{seed}")))
    result = json.loads((tmp_path / "seed-1" / "result.json").read_text())
    epochs = [json.loads(line) for line in (tmp_path / "seed-1" / "metrics.jsonl").read_text().splitlines()]
    best = min(epochs, key=lambda epoch: epoch["validation_loss"])
    capsys.readouterr()
    *_, row = compared(capsys, tmp_path, tmp_path / "seed-0", tmp_path / "seed-1")
    assert row.split() == [
        *("seed-1", "1", "2/2", f"{best['validation_loss']:.4g}", f"({best['epoch']})"),
        *(f"{100 * best['validation_accuracy']:.2f}%", f"{100 * result['test_accuracy']:.2f}%", "(2)"),
        f"{epochs[-1]['seconds']:.1f}",
    ]


def test_the_table_has_the_options_that_differ_and_what_came_of_them(tmp_path, capsys):
    """Other folders, checkpoints, caches and numbers of epochs are no difference; best is the first of the least."""
    a = write(tmp_path / "b", optimizer="sgd", learning_rate=0.1, batch_size=64, keep=5, checkpoint_every="0")
    b = write(tmp_path / "a", (0.25, 0.25), batch_size=64, hidden=(64, 32), compilation_cache=False)
    assert compared(capsys, tmp_path, a, b) == [
        "                                                  best                    test",
        "                        learning            validation  validation    accuracy",
        "run  hidden  optimizer  rate      epochs  loss (epoch)    accuracy     (epoch)  seconds",
        "b    256     sgd        0.1          4/4     0.125 (3)      87.50%  75.00% (4)      6.0",
        "a    64 32   adamw      default      2/2      0.25 (1)      75.00%  75.00% (2)      3.0",
    ]


def test_a_run_of_numbers_is_told_in_rmse(tmp_path, capsys):
    assert compared(capsys, tmp_path, write(tmp_path / "a", metric="rmse")) == [
        "                     best                  test",
        "               validation  validation      RMSE",
        "run  epochs  loss (epoch)        RMSE   (epoch)  seconds",
        "a       4/4     0.125 (3)       0.875  0.75 (4)      6.0",
    ]


@pytest.mark.parametrize("metric", ["accuracy", "rmse"])
def test_of_several_seeds_there_are_means_and_halves_of_their_intervals(tmp_path, capsys, metric):
    *_, a, b, note = compared(
        capsys, tmp_path, write(tmp_path / "a", metric=metric), write(tmp_path / "b", metric=metric, seeds=2)
    )
    # Of two values 12.706 times half of their distance: by Student's t with one degree of freedom.
    cells = {
        "accuracy": ["0.125 +- 0.16 (3)", "87.50% +- 111.18%", "75.00% +- 25.00% (4)"],
        "rmse": ["0.125 +- 0.16 (3)", "0.875 +- 1.1", "0.75 +- 0.25 (4)"],
    }
    assert b.split() == ["b", "2", "4/4", *" ".join(cells[metric]).split(), "6.0"]
    assert "+-" not in a
    assert note == "+-         half of the 95% interval of the mean over a run's seeds, on one split"


def test_on_a_terminal_of_80_columns_a_long_path_loses_its_middle_and_no_cell_is_in_two_lines(
    tmp_path, capsys, monkeypatch
):
    where = "/a/very/long/path/to/where/the/data/are"
    for name, data, hidden in (("a", "houses-of-2023", (32, 32)), ("b", "houses-of-2024", (512, 512, 512, 512))):
        write(tmp_path / name, data=f"{where}/{data}.csv", target=("price",), hidden=hidden, seeds=2)
    monkeypatch.setattr(screen, "width", lambda stream=None: 80)
    monkeypatch.chdir(tmp_path)
    compare(CompareConfig(("a", "b"), "figure.svg"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[:2] for line in lines if line.startswith(("a ", "b "))][:2] == [
        ["a", "/a/very/...ses-of-2023.csv"],
        ["b", "/a/very/...ses-of-2024.csv"],
    ]
    rows = [line for line in lines if line.startswith(("a ", "b "))]
    assert len(rows) == 2 * sum(line.startswith("run ") for line in lines)
    assert any("512 512 512 512" in row for row in rows)
    assert any("75.00% +- 25.00% (4)" in row for row in rows)


def test_a_run_that_goes_on_has_no_test(tmp_path, capsys):
    """Nor has one that was finished before, with fewer epochs."""
    running, further = write(tmp_path / "b", finished=False, epochs=50), write(tmp_path / "c", epochs=50)
    result = json.loads((further / "result.json").read_text())
    folder.write_json(further / "result.json", result | {"epochs": 3})
    assert compared(capsys, tmp_path, write(tmp_path / "a"), running, further)[3:] == [
        "a       4/4     0.125 (3)      87.50%  75.00% (4)      6.0",
        "b      4/50     0.125 (3)      87.50%           -      6.0",
        "c      4/50     0.125 (3)      87.50%           -      6.0",
        "-          running, or cut short",
    ]


def test_other_data_of_the_same_kind_are_said(tmp_path, capsys):
    a, b = write(tmp_path / "a", data="a.csv", target=("x",)), write(tmp_path / "b", data="a.csv", target=("y",))
    c = write(tmp_path / "c", data="iris")
    note = "note       the runs differ in {}: losses and accuracy are not of the same problem"
    assert compared(capsys, tmp_path, a, b)[-1] == note.format("target")
    assert compared(capsys, tmp_path, a, c)[-1] == note.format("data and target")


def test_nothing_is_cut_off_or_taken_for_markup(tmp_path, capsys, monkeypatch):
    """However narrow the terminal."""
    monkeypatch.setenv("COLUMNS", "40")
    names = [f"[bold]:smile:-{'and-so-on-' * 12}{end}" for end in "ab"]
    runs = [write(tmp_path / name, batch_size=k) for k, name in enumerate(names, 1)]
    for piped in (True, False):
        if not piped:
            monkeypatch.setenv("FORCE_COLOR", "1")
        *_, a, b = compared(capsys, tmp_path, *runs)
        assert [a.split()[:2], b.split()[:2]] == [[names[0], "1"], [names[1], "2"]]
        assert a.split()[-1] == "6.0"


def test_options_that_one_version_lacks_are_as_by_default(tmp_path, capsys):
    older, newer = write(tmp_path / "a"), write(tmp_path / "b")
    for where, changes in ((older, {"dtype": None}), (newer, {"warm_up": True, "dtype": "float64"})):
        options = json.loads((where / "config.json").read_text()) | changes
        folder.write_json(where / "config.json", {name: value for name, value in options.items() if value is not None})
    *_, header, a, b = compared(capsys, tmp_path, older, newer)
    assert header.split()[:3] == ["run", "dtype", "up"]
    assert [a.split()[:3], b.split()[:3]] == [["a", "float32", "default"], ["b", "float64", "yes"]]


def test_names_are_as_long_as_it_takes_to_tell_them_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [folder.Path(name) for name in ("a/run", "b/../b/run", "c/", "/x/b/run")]
    assert distinguishing_names(paths) == ["a/run", f"{tmp_path.name}/b/run", "c", "x/b/run"]
    assert distinguishing_names([folder.Path(".")]) == [tmp_path.name]


def test_the_figure_has_each_runs_curves_in_a_look_of_its_own(tmp_path, capsys, drawn):
    names = [f"_run-{k}-漢" for k in range(12)]
    compared(capsys, tmp_path, *(write(tmp_path / name, LOSSES[: 1 + k % 4]) for k, name in enumerate(names)))
    (figure,) = drawn
    left, right = figure.axes
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    training, validation = left.lines[::2], left.lines[1::2]
    looks = {(line.get_color(), line.get_linestyle()) for line in validation}
    assert len(looks) == len(names)
    for k, lines in enumerate(zip(training, validation, right.lines, legend.get_lines(), strict=True)):
        losses = np.array(LOSSES[: 1 + k % 4])
        np.testing.assert_allclose(lines[0].get_ydata(), losses / 2)
        np.testing.assert_allclose(lines[1].get_ydata(), losses)
        np.testing.assert_allclose(lines[2].get_ydata(), 100 * (1 - losses))
        assert all(list(line.get_xdata()) == [1, 2, 3, 4][: len(losses)] for line in lines[:3])
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 1
        assert lines[1].get_markevery() == lines[2].get_markevery() == [losses.argmin()]
        assert lines[0].get_linewidth() < lines[1].get_linewidth()
        # A line through one point is not seen.
        assert (lines[0].get_marker() == ".") == (len(losses) == 1)
    assert (left.get_xlabel(), right.get_xlabel()) == ("epoch", "epoch")
    assert (left.get_ylabel(), right.get_ylabel()) == ("cross-entropy (nats per example)", "accuracy (%)")


@pytest.mark.parametrize("runs", [1, 2, 8, 12])
@pytest.mark.parametrize("letters", [2, 30, 200])
def test_the_legend_lies_below_the_panels_and_within_the_figure(tmp_path, runs, letters, drawn):
    epochs = [Epoch(number, loss, loss, 0.5, 1.0) for number, loss in enumerate(LOSSES, 1)]
    curves.draw_comparison(tmp_path / "figure.png", {f"{'W' * letters}{k}": epochs for k in range(runs)}, accuracy=True)
    (figure,) = drawn
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.width
    for axes in figure.axes:
        assert axes.get_tightbbox().y0 >= legend.y1
        # As high as the panels of a run's own figure.
        assert 0.75 < axes.get_window_extent().height / (3.9 * figure.dpi) < 0.9


@pytest.mark.parametrize(("epochs", "scale"), [(4, "linear"), (10, "log")])
def test_a_short_run_beside_one_of_ten_times_its_length_is_seen_as_epochs_go_by_their_logarithm(
    epochs, scale, tmp_path, capsys, drawn
):
    compared(capsys, tmp_path, write(tmp_path / "short", LOSSES[:1]), write(tmp_path / "long", LOSSES[:1] * epochs))
    assert [axes.get_xscale() for axes in drawn[0].axes] == [scale, scale]


def test_losses_that_are_not_all_positive_are_on_a_plain_scale(tmp_path, capsys, drawn):
    compared(capsys, tmp_path, write(tmp_path / "a"))
    compared(capsys, tmp_path, tmp_path / "a", write(tmp_path / "b", (0.5, 0.0)))
    assert [figure.axes[0].get_yscale() for figure in drawn] == ["log", "linear"]


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
def test_the_ending_says_in_which_format_and_an_older_figure_is_replaced(tmp_path, capsys, name, start):
    (tmp_path / name).write_text("older")
    compared(capsys, tmp_path, write(tmp_path / "run"), out=name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert not plt.get_fignums()


def test_a_line_that_is_being_written_is_passed_over(tmp_path):
    where = write(tmp_path / "run", finished=False)
    whole = (where / "metrics.jsonl").read_bytes()
    last = whole.rstrip().rindex(b"\n") + 1
    for end in range(last, len(whole) + 1):
        (where / "metrics.jsonl").write_bytes(whole[:end])
        # The line is whole when only its end is missing.
        assert len(read(where).epochs) == (4 if end >= len(whole) - 1 else 3)


def test_more_in_a_line_is_nothing_to_complain_of(tmp_path):
    where = write(tmp_path / "run")
    lines = [
        json.loads(line) | {"diagnostics": {"0": [1.0]}} for line in (where / "metrics.jsonl").read_text().splitlines()
    ]
    before = read(where)
    (where / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read(where) == before


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (2, b"}"),
        (2, b""),
        (4, b'{"epoch": 4'),
        (1, b"[]"),
        (3, b"3"),
        (2, b"\xff\xfe{"),
        (2, b'{"epoch": 2, "train_loss": 1.0, "validation_loss": 1.0, "validation_rmse": 1.0, "seconds": 1.0}'),
        (2, b'{"epoch": 3, "train_loss": 1.0, "validation_loss": 1.0, "validation_accuracy": 1.0, "seconds": 1.0}'),
        (2, b'{"epoch": 2, "train_loss": NaN, "validation_loss": 1.0, "validation_accuracy": 1.0, "seconds": 1.0}'),
        (2, b'{"epoch": 2, "train_loss": null, "validation_loss": 1.0, "validation_accuracy": 1.0, "seconds": 1.0}'),
        (2, b'{"epoch": 2, "train_loss": 1.0, "validation_accuracy": 1.0, "seconds": 1.0}'),
        (
            2,
            b'{"epoch": 2, "train_loss": 1.0, "validation_loss": 1.0, "validation_accuracy": 1.0, "seconds": 1.0, '
            b'"seeds": {"train_loss": [1.0, 1.0], "validation_loss": [1.0], "validation_accuracy": [1.0, 1.0]}}',
        ),
    ],
)
def test_a_damaged_line_is_named(tmp_path, number, line):
    where = write(tmp_path / "run")
    lines = (where / "metrics.jsonl").read_bytes().splitlines()
    lines[number - 1] = line
    (where / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert refusal(where) == (
        f"{where}/metrics.jsonl, line {number}: expected epoch {number} with train_loss, validation_loss, "
        "validation_accuracy or validation_rmse, and seconds; restore the file, or leave the run out"
    )


@pytest.mark.parametrize("content", [None, b"", b'{"epoch": 1, "train'])
def test_a_run_without_an_epoch_is_named(tmp_path, content):
    where = write(tmp_path / "run", finished=False)
    (where / "metrics.jsonl").unlink()
    if content is not None:
        (where / "metrics.jsonl").write_bytes(content)
    expected = "has no epoch yet; expected one at least; wait for it, or leave the run out"
    assert refusal(where) == f"{where}/metrics.jsonl: {expected}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b"\xff\xff"),
        ("config.json", b"[" * 100_000),
        ("result.json", b""),
        ("result.json", b"null"),
        ("result.json", b'{"test_rmse": 1.0, "kept_epoch": 4, "epochs": 4}'),
        ("result.json", b'{"test_accuracy": "1", "kept_epoch": 4, "epochs": 4}'),
        ("result.json", b'{"test_accuracy": 1, "kept_epoch": 4, "epochs": 4, "interval": {"test_accuracy": [1]}}'),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content):
    where = write(tmp_path / "run")
    (where / name).write_bytes(content)
    assert refusal(where) == f"{where}/{name}: is damaged; restore it from a copy, or leave the run out"


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "result.json"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    where = write(tmp_path / "run")
    (where / name).unlink()
    (where / name).mkdir()
    assert refusal(where) == f"{where}/{name}: cannot be read (Is a directory)"


def test_folders_that_cannot_be_compared_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = write(tmp_path / "a"), write(tmp_path / "b", metric="rmse")
    (tmp_path / "link").symlink_to("a")
    assert refusal("no") == "no: no such folder; expected the folder of a run"
    assert refusal("a/config.json") == "a/config.json: is a file; expected the folder of a run"
    assert refusal("a", ".") == ".: holds no run (config.json); expected the folder of a run"
    assert refusal("a", "b", "a") == "a: is given twice; expected each run once; leave one out"
    assert refusal("a", "link") == "link: is the same folder as a; expected each run once; leave one out"
    assert refusal(a, b) == (
        f"{b}: learns numbers, with an RMSE, and {a} classes, with an accuracy; expected runs of one kind; "
        "compare each kind by itself"
    )


def test_a_figure_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a")
    expected = "expected a name that ends in .png, .svg or .pdf"
    assert refusal("a", out="a.jpg") == f"--out a.jpg: {expected}"
    assert refusal("a", out="png") == f"--out png: {expected}"
    assert refusal("a", out="no/a.png") == "--out no/a.png: there is no folder no; make it, or choose another"
    (tmp_path / "a.pdf").mkdir()
    assert refusal("a", out="a.pdf") == "--out a.pdf: is a folder; expected the name of a file"


def test_several_runs_are_read_from_the_command_line():
    assert parse(CompareConfig, ["a", "b", "c"]) == CompareConfig(("a", "b", "c"), "compare.png")
    assert parse(CompareConfig, ["a", "b", "--out", "b.svg"]) == CompareConfig(("a", "b"), "b.svg")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "RUN is missing; expected the folders of one run or more; --help says what they are"),
        ("--out a.png", "RUN is missing; expected the folders of one run or more; --help says what they are"),
    ],
)
def test_a_wrong_command_line_is_named(line, message):
    with pytest.raises(BadInput) as error:
        parse(CompareConfig, line.split())
    assert str(error.value) == message
