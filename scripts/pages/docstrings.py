"""Docstrings as Markdown: their equations are plain text, in which * and < mean what they say."""

import re

# Code between ticks stays as it is.
TICKS = re.compile(r"(`[^`]*`)")


def as_markdown(docstring: str) -> str:
    """The docstring, as griffe and Markdown take it for what it says."""
    text, marker, example = docstring.partition("\nExample:\n")
    chunks = [chunk if _is_code(chunk) else _escaped(chunk) for chunk in text.split("\n\n")]
    return "\n\n".join(chunks) + marker.replace("Example", "Examples") + example


def _escaped(text):
    parts = TICKS.split(text)
    parts[::2] = [part.replace("*", r"\*").replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts)


def _is_code(chunk):
    """Whether it is a block of code: fenced, or with every line set in."""
    lines = chunk.strip("\n").split("\n")
    return lines[0].startswith("```") or all(line.startswith("    ") for line in lines)
