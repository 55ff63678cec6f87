"""The lesson's pages, in English and Chinese: their program prints what they say, and S1 to S15 lead to the code."""

import ast
import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
PAGES = {"English": ROOT / "docs" / "lesson.md", "Chinese": ROOT / "docs" / "zh" / "lesson.md"}


def printed_by(blocks, capsys):
    """What each Python block prints, beside what is written below it; they share their names."""
    names: dict = {}
    with jax.numpy_rank_promotion("allow"):
        for (language, program), (below, written) in zip(blocks, [*blocks[1:], ("python", "")], strict=True):
            if language == "python":
                exec(program, names)
                yield capsys.readouterr().out, "" if below else written


def blocks_of(page):
    return re.findall(r"```(\w*)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def sections_of(page):
    """{number: text} for S1 to S15; a heading may name several."""
    parts = re.split(r"^#{2,3} (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        int(number): text
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
        for number in re.findall(r"\bS(\d+)", heading, re.ASCII)
    }


def mentions():
    """{file: numbers} of the lesson, in the package and the scripts."""
    for path in (*ROOT.glob("jaxnet/**/*.py"), *ROOT.glob("scripts/**/*.py")):
        if numbers := set(map(int, re.findall(r"\bS(\d{1,2})\b", path.read_text()))):
            yield str(path.relative_to(ROOT)), numbers


@pytest.mark.usefixtures("optax_promotion", "without_shape_annotations")
@pytest.mark.parametrize("language", PAGES)
def test_the_program_of_the_lesson_prints_what_is_written_below_each_block(language, capsys):
    for printed, written in printed_by(blocks_of(PAGES[language]), capsys):
        assert printed == written


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_s1_to_s15_are_explained_and_every_file_that_names_one_is_named_there(page):
    sections = sections_of(page)
    assert list(sections) == list(range(1, 16))
    named = dict(mentions())
    assert len(named) > 15
    for file, numbers in named.items():
        for number in numbers:
            assert f"`{file}::" in sections[number], f"S{number}: {file}"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_name_and_link_of_the_lessons_pages_is_there(page):
    text = page.read_text(encoding="utf-8")
    for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", text):
        defined = set()
        for node in ast.parse((ROOT / file).read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node]
            defined |= {getattr(target, "id", getattr(target, "name", None)) for target in targets}
        assert name in defined, f"{page.name}: {file} has no {name}"
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_both_pages_have_the_same_program_numbers_and_commands():
    english, chinese = (page.read_text(encoding="utf-8") for page in PAGES.values())
    programs = [
        [re.sub(r" *#.*", "", text) for language, text in blocks_of(page) if language == "python"]
        for page in PAGES.values()
    ]
    assert programs[0] == programs[1]
    for what in (r"`python scripts/[^`]+`", r"`[\w/]+\.py::\w+`"):
        assert set(re.findall(what, english)) == set(re.findall(what, chinese))
    # The table of S14: the same measured numbers in each row.
    rows = [re.findall(r"^\| (?:\([a-g]\)|S7) \|.*$", text, re.MULTILINE) for text in (english, chinese)]
    assert len(rows[0]) == 8
    for row, as_well in zip(*rows, strict=True):
        assert re.findall(r"\d+\.\d+|\d+%", row) == re.findall(r"\d+\.\d+|\d+%", as_well)
