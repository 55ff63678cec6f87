"""A notebook as a page of the site: its text, its code, and what it printed and drew when it was made."""

import json
from base64 import b64decode
from pathlib import PurePosixPath
from typing import NamedTuple

from pages.sources import ROOT, place

FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "notebooks").glob("*.ipynb"))


class Page(NamedTuple):
    """The Markdown of a page, and its pictures by their places."""

    text: str
    pictures: dict[str, bytes]


def shown(file: str) -> Page:
    """The page of a notebook."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    stem = PurePosixPath(place(file)).with_suffix("")
    for cell in json.loads((ROOT / file).read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        outputs = cell.get("outputs", ())
        if printed := "".join("".join(output.get("text", "")) for output in outputs).rstrip():
            parts.append(f"```text\n{printed}\n```")
        for output in outputs:
            if "data" in output:
                picture = f"{stem}-{len(pictures) + 1}.png"
                pictures[picture] = b64decode(output["data"]["image/png"])
                parts.append(f"![What the code above draws]({PurePosixPath(picture).name})")
    return Page("\n\n".join(parts) + "\n", pictures)
