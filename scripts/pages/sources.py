"""Files of the repository as pages of the site: a page may link to them, and names them as `path.py::function`.

In the repository such a link leads to the file. On the site it leads to a page that shows the file with the numbers of
its lines, made when the site is built; nothing is copied.
"""

import ast
import re
from collections.abc import Iterable
from functools import cache
from os.path import relpath
from pathlib import Path, PurePosixPath
from posixpath import normpath

ROOT = Path(__file__).parents[2]
# What lies outside of docs/ and has a page of its own.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "examples": "examples.md",
}
# Of these the site shows the file itself.
SHOWN = ("CHANGELOG.md", "CONTRIBUTING.md")
FENCE = re.compile(r"(^(`{3,})[^\n]*\n.*?^\2[^\n]*$)", re.MULTILINE | re.DOTALL)
# A link, with its target; or code that names a file, and in it a function.
LINK_OR_POINTER = re.compile(
    r"(?P<text>\[[^\]\n]*\]\()(?P<target>[^)#\s]+)"
    r"|`(?P<file>[\w./-]+\.py)(?:::(?P<name>\w+))?`"
)


def source(place: str) -> str:
    """'docs/how-to/text.md' of the site's page 'how-to/text.md': which file of the repository it shows."""
    of_page = {place: file for file, place in PAGES.items() if file in SHOWN}
    return of_page.get(place, f"docs/{place}")


def place(file: str) -> str:
    """Where a file or folder of the repository is on the site."""
    file = file.replace(".ipynb", ".md")
    return PAGES.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else f"source/{file}.md")


def shown(file: str) -> str:
    """The page of a file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`{3,}", text)), default=0))
    language = {".py": "python", ".toml": "toml", ".md": "markdown"}.get(PurePosixPath(file).suffix, "text")
    exclude = "---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n"
    return f'{exclude}# `{file}`\n\n{fence}{language} linenums="1"\n{text.rstrip()}\n{fence}\n'


def led_to(text: str, file: str) -> set[str]:
    """Which files of the repository a page of Markdown leads to that are no pages themselves."""
    found: set[str] = set()

    def note(match, target):
        found.add(target)
        return match[0]

    _each_link(text, file, note)
    return {target for target in found if place(target).startswith("source/")}


def on_site(text: str, file: str) -> str:
    """The page of Markdown that is this file, with links to files of the repository that lead to their pages."""
    folder = PurePosixPath(place(file)).parent

    def link(match, target):
        there = relpath(place(target), folder)
        if match["text"]:
            return f"{match['text']}{there}"
        line = _line_of(target, match["name"])
        return f"[{match[0]}]({there}{f'#__codelineno-0-{line}' if line else ''})"

    return _each_link(text, file, link)


def lines_in(html: str) -> set[str]:
    """The anchors of the lines of code on a page."""
    return set(re.findall(r'id="(__codelineno-[\d-]+)"', html))


def pages_led_to(files: Iterable[str]) -> set[str]:
    """Which files of the repository these pages lead to that are no pages themselves."""
    return {target for file in files for target in led_to((ROOT / file).read_text(encoding="utf-8"), file)}


def _each_link(text, file, change):
    """The text, with each link to a file or folder that is there changed by `(match, file or folder)`."""

    def changed(match):
        target = match["file"] or normpath(str(PurePosixPath(file).parent / match["target"]))
        return change(match, target) if _is_there(target) else match[0]

    parts = FENCE.split(text)
    # Each fence comes as two parts, itself and its ticks.
    parts[::3] = [LINK_OR_POINTER.sub(changed, part) for part in parts[::3]]
    return "".join(part for number, part in enumerate(parts) if number % 3 < 2)


@cache
def _is_there(target):
    """Whether it is a file of the repository, or a folder that has a page."""
    return target in PAGES or (not target.startswith("..") and (ROOT / target).is_file())


@cache
def _line_of(file, name):
    """Where a function or a class begins; None where the file has none of that name."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.ClassDef
    return next((node.lineno for node in ast.walk(tree) if isinstance(node, kinds) and node.name == name), None)
