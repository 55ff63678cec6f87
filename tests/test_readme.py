"""What the README promises: its examples run, and its numbers are printed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnet.experiment.commands import generate, predict, train
from jaxnet.experiment.options.parse import parse

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
PRINTED = [text for language, text in BLOCKS if not language]


def test_it_is_read_at_a_sitting():
    assert README.count("\n") <= 180


def test_the_first_example_prints_what_is_written_below_it():
    done = subprocess.run([sys.executable, "-c", PROGRAMS[0]], capture_output=True, text=True, check=True)
    before, after = re.fullmatch(r"loss (\S+) -> (\S+)\n", done.stdout).groups()
    written_before, written_after = re.search(r"^loss (\S+) -> (\S+)$", README, re.MULTILINE).groups()
    assert before == written_before
    # 500 updates carry the rounding of another machine along.
    assert float(after) == pytest.approx(float(written_after), abs=0.02)


def test_the_readings_print_what_is_written_below_them(capsys):
    (program,) = (text for text in PROGRAMS if "clipped_mean" in text)
    exec(program, {})
    assert capsys.readouterr().out in PRINTED


def test_the_networks_for_images_and_for_text_are_made_as_it_is_written():
    (program,) = (text for text in PROGRAMS if "jn.transformer" in text)
    names: dict = {}
    exec(program, names)
    assert repr(names["images"]).startswith("chain(conv(1, 32")


def test_the_mistake_in_the_own_layer_prints_the_message_and_mended_it_passes(without_shape_annotations):
    (program,) = (text for text in PROGRAMS if "check_layer" in text)
    with pytest.raises(AssertionError) as error:
        exec(program, {})
    (written,) = [text for text in PRINTED if text.startswith("check_layer")]
    assert str(error.value) == written.strip()
    mended = program.replace(" / len(x)", "")
    assert mended != program
    exec(mended, {})


@pytest.mark.parametrize(
    ("measured", "page", "row"),
    [
        ("a step at 64-64-10, batch 64, over ours", "benchmarks", "64-64-10, 64"),
        ("a CNN's step at 28x28, batch 128, over ours", "benchmarks", "CNN, 128"),
        ("a clipped mean at 784-512-512-10, batch 1024, over `jax.grad`", "readings", "784-512-512-10, 1024"),
    ],
)
def test_what_was_measured_stands_in_the_pages_table(measured, page, row):
    (told,) = re.findall(rf"^\| {re.escape(measured)} \| (.*?) \|", README, re.MULTILINE)
    # The newest table is the first one.
    of_page = re.search(rf"^\| {re.escape(row)} \| .*$", (ROOT / f"docs/{page}.md").read_text(), re.MULTILINE)[0]
    numbers = re.findall(r"\d+(?:\.\d+)?", told)
    assert numbers
    assert set(numbers) <= set(re.findall(r"\d+(?:\.\d+)?", of_page.removeprefix(f"| {row} |")))


def test_the_two_commands_stand_on_lines_of_their_own():
    assert "\npip install -e '.[train]' && python scripts/train.py\n" in README
    assert "\npip install -e '.[test]' && pytest\n" in README


@pytest.mark.usefixtures("without_figures", "optax_promotion")
def test_training_on_digits_begins_as_it_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train.main(["--epochs", "1", "--no-compilation-cache", "--checkpoint-every", "0"])
    (written,) = (text for text in PRINTED if text.startswith("device"))
    # What comes after, up to the end, is the result of a hundred epochs.
    begins = written.split("...")[0].splitlines()[1:]
    assert len(begins) == 4
    assert begins == capsys.readouterr().out.splitlines()[1:5]


def test_the_options_of_the_shell_examples_exist():
    lines = re.findall(r"^jaxnet (train|predict|generate) (.+)$", README, re.MULTILINE)
    assert len(lines) == 6
    configs = {"train": train.TrainConfig, "predict": predict.PredictConfig, "generate": generate.GenerateConfig}
    for command, options in lines:
        parse(configs[command], shlex.split(options, comments=True))
