"""Equations in plain text, in which < and * mean what they say, and are no markup."""

import re

from pages.sources import FENCE

# Code between ticks stays as it is.
TICKS = re.compile(r"(`[^`]*`)")
# <dy_t, v_s> is no tag, though Python's Markdown takes it for one.
INNER_PRODUCT = re.compile(r"<(?=\w+[_,])")


def in_page(markdown: str) -> str:
    """The page, with its inner products shown; blocks of code stay as they are."""
    parts = FENCE.split(markdown)
    # Each fence comes as two parts, itself and its ticks.
    parts[::3] = ["".join(map(_line, part.splitlines(keepends=True))) for part in parts[::3]]
    return "".join(part for number, part in enumerate(parts) if number % 3 < 2)


def in_docstring(docstring: str) -> str:
    """The docstring, as griffe and Markdown take it for what it says."""
    text, marker, example = docstring.partition("\nExample:\n")
    chunks = [chunk if _is_code(chunk) else _prose(chunk) for chunk in text.split("\n\n")]
    return "\n\n".join(chunks) + marker.replace("Example", "Examples") + example


def _line(line):
    return line if line.startswith("    ") else _outside_ticks(lambda text: INNER_PRODUCT.sub("&lt;", text), line)


def _prose(text):
    return _outside_ticks(lambda text: text.replace("*", r"\*").replace("<", "&lt;"), text)


def _outside_ticks(change, text):
    parts = TICKS.split(text)
    parts[::2] = map(change, parts[::2])
    return "".join(parts)


def _is_code(chunk):
    """Whether it is a block of code: fenced, or with every line set in."""
    lines = chunk.strip("\n").split("\n")
    return lines[0].startswith("```") or all(line.startswith("    ") for line in lines)
