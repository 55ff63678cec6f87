"""What a built page would fetch from elsewhere when it is read: nothing, so that no network is needed."""

import re
from collections.abc import Iterator
from pathlib import Path

# Tags that a browser fetches something for; an <a> it follows only when told to.
FETCHING = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object|link(?![^>]*rel=[\"']?canonical))\b[^>]*?"
    r"(?:src|href|data)=[\"']?((?:https?:)?//[^\s\"'>]+)"
)
IN_STYLES = re.compile(r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^\s\"')]+)")


def fetched(text: str) -> list[str]:
    """Addresses outside of the site that a page or a style sheet fetches scripts, styles, fonts or pictures from."""
    return FETCHING.findall(text) + IN_STYLES.findall(text)


def refuse_fetched(site: Path) -> None:
    """Raises where a built page or style sheet fetches something from outside of the site."""
    for path, addresses in _found(site):
        raise ValueError(f"{path}: fetches {', '.join(addresses)}; the site's pages are read without a network")


def _found(site: Path) -> Iterator[tuple[str, list[str]]]:
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css"):
            addresses = fetched(path.read_text(encoding="utf-8"))
            if addresses:
                yield path.relative_to(site).as_posix(), addresses
