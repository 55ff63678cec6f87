"""The pages of derivations point at code that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "derivations").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_function_that_a_page_points_at_is_there(page):
    pointers = re.findall(r"`([\w/]+\.py)::(\w+)`", page.read_text())
    assert pointers
    for file, name in pointers:
        defined = {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert name in defined, f"{page.name}: {file} has no function {name}"
