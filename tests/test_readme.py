"""What the README promises: its examples run, its numbers are printed, its table points at the right lines."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from claims.program import draw_network

import jaxnet as jn
from jaxnet.experiment.data.named import NAMES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
PRINTED = [text for language, text in BLOCKS if not language]
ROWS = re.findall(r"^\| (S[^|]+) \| ([^|]+) \| `(.+)` \| \[(.+):(\d+)\]\((.+)#L(\d+)\) \|$", README, re.MULTILINE)


def test_the_first_example_prints_what_is_written_below_it():
    done = subprocess.run([sys.executable, "-c", PROGRAMS[0]], capture_output=True, text=True, check=True)
    before, after = re.fullmatch(r"loss (\S+) -> (\S+)\n", done.stdout).groups()
    written_before, written_after = re.search(r"^loss (\S+) -> (\S+)$", README, re.MULTILINE).groups()
    assert before == written_before
    # 500 updates carry the rounding of another machine along.
    assert float(after) == pytest.approx(float(written_after), abs=0.02)


def test_the_three_choices_print_what_is_written_below_them(capsys, without_shape_annotations):
    """A program for each column of the table, after one that sets the scene."""
    start = next(k for k, text in enumerate(PROGRAMS) if "net.forward(params, x)" in text and k > 0)
    names: dict = {}
    for program in PROGRAMS[start : start + 4]:
        exec(program, names)
    printed = capsys.readouterr().out
    blocks = [text for text in PRINTED if text.startswith(("(16, 4)", "random", "norms"))]
    assert len(blocks) == 3
    assert printed == "".join(blocks)
    assert all(program.strip().count("\n") <= 10 for program in PROGRAMS[start : start + 4])


def test_the_deep_network_prints_what_is_written_below_it(capsys, optax_promotion):
    (program,) = (text for text in PROGRAMS if "jn.repeat" in text)
    exec(program, {})
    assert capsys.readouterr().out in PRINTED


def test_the_networks_for_images_and_for_text_are_made_as_it_is_written():
    (program,) = (text for text in PROGRAMS if "jn.transformer" in text)
    names: dict = {}
    exec(program, names)
    assert repr(names["images"]).startswith("chain(conv(1, 32")


def test_the_table_of_the_first_examples_network_is_what_summary_gives():
    names: dict = {}
    exec(PROGRAMS[0].split("z, cache =")[0], names)
    (written,) = (text for text in PRINTED if text.startswith("layer "))
    assert jn.summary(names["net"], names["params"], names["x"]) + "\n" == written


def test_the_drawn_network_is_what_the_lesson_draws_today(tmp_path):
    draw_network(tmp_path)
    drawn = (tmp_path / "graph.svg").read_text(encoding="utf-8")
    assert drawn == (ROOT / "docs" / "lesson-graph.svg").read_text(encoding="utf-8")


def test_the_mistake_in_the_own_layer_prints_the_message_and_mended_it_passes(without_shape_annotations):
    (program,) = (text for text in PROGRAMS if "check_layer" in text)
    with pytest.raises(AssertionError) as error:
        exec(program, {})
    (written,) = [text for text in PRINTED if text.startswith("check_layer")]
    assert str(error.value) == written.strip()
    mended = program.replace(" / len(x)", "")
    assert mended != program
    exec(mended, {})


@pytest.mark.parametrize(("code", "shown", "path", "line"), [(row[2], row[3:5], row[5], int(row[6])) for row in ROWS])
def test_every_line_of_code_in_the_table_stands_where_it_says(code, shown, path, line):
    lines = (ROOT / path).read_text().splitlines()
    assert lines[line - 1].strip() == code, [number for number, text in enumerate(lines, 1) if text.strip() == code]
    assert shown == (path.removeprefix("jaxnet/"), str(line))


def test_the_table_covers_s1_to_s13():
    named = {f"S{number}" for row in ROWS for number in re.findall(r"S(\d+)", row[0])}
    assert named == {f"S{number}" for number in range(1, 14)}


def test_every_data_set_and_link_is_there():
    for name in NAMES:
        assert f"`{name}`" in README
    for link in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / link).exists(), link


def test_the_two_commands_stand_on_lines_of_their_own():
    assert "\npip install -e '.[train]' && python scripts/train.py\n" in README
    assert "\npip install -e '.[test]' && pytest\n" in README


def test_the_options_of_the_shell_examples_exist():
    from jaxnet.experiment.options.parse import parse
    from jaxnet.experiment.options.train_config import TrainConfig

    lines = re.findall(r"^python scripts/train\.py (--(?!help).+)$", README, re.MULTILINE)
    assert len(lines) == 11
    for line in lines:
        parse(TrainConfig, line.split())
