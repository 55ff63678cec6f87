"""What a case is made of, and how things are broken."""

import random
from pathlib import Path
from typing import Any, NamedTuple

# What text can hold that its reader may not have thought of.
ODD_TEXTS = (
    "", " ", "-", "--", "---", "=", ",", "\n", "\t", "\x1b[31m", "\x7f", "\ufeff", "\u2028", "é", "日本", "🙂",
    "\udcff", "nan", "inf", "-inf", "1e999", "-1e-999", "1e150", "0x10", "1_000", "१२", "٣", " 3 ", "+3", "3.", ".5",
    "1e", "--1", "0", "-0", "-1", "00", "4294967296", "9" * 30, "9" * 5000, "1" + "0" * 400, "None", "null", "true",
    "False", "[]", "{}", "'", '"', "a b", "a,b", "a;b", "$x", r"$\frac", "%s", "%(x)s", "{0}", "${HOME}", "~", ".",
    "..", "*", "?", "\\", "/", "NA", "#", "=1+1", "x" * 300, "x" * 5000,
)  # fmt: skip
ODD_VALUES = (
    None, True, False, 0, -1, 1.5, 2**70, float("inf"), "", "x", "../x", [], [1], ["a"], [[]], {}, {"a": 1},
)  # fmt: skip


class Case(NamedTuple):
    """A script's command line, in a folder that holds what it reads.

    Attributes:
      script: its name.
      arguments: of the command line.
      may_write: files and folders that the command line names for what is written, relative to the folder.
      may_diverge: whether it may ask for a step so long that numbers overflow.
    """

    script: str
    arguments: list[str]
    may_write: tuple[str, ...] = ()
    may_diverge: bool = False


def broken_bytes(rng: random.Random, content: bytes) -> bytes:
    """Bytes with a few flipped, cut out, doubled, put in, or all that comes after a place gone."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        # Headers are at the start: half of all damage is done there.
        end = len(content) if rng.random() < 0.5 else min(len(content), 128)
        at = rng.randrange(end + 1)
        many = rng.choice((1, 1, 2, 4, 8, 64))
        match rng.randrange(7):
            case 0 | 1 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 2:
                content[at : at + many] = rng.randbytes(len(content[at : at + many]))
            case 3:
                del content[at : at + many]
            case 4:
                content[at:at] = content[at : at + many] if rng.random() < 0.5 else rng.randbytes(many)
            case 5:
                content[at : at + many] = bytes([rng.choice((0, 0x7F, 0x80, 0xFF))]) * many
            case _:
                del content[at:]
    return bytes(content)


def broken_text(rng: random.Random, text: str) -> str:
    """Text with letters left out, doubled, exchanged or put in."""
    letters = list(text)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(letters) + 1)
        match rng.randrange(4):
            case 0:
                del letters[at : at + rng.choice((1, 1, 5))]
            case 1:
                letters[at:at] = letters[at : at + rng.choice((1, 10))]
            case 2:
                letters[at:at] = rng.choice(ODD_TEXTS)[:300]
            case _:
                letters[at : at + 1] = rng.choice("\0\n\r,;\"'-= \t.eE019xé")
    return "".join(letters)


def broken_json(rng: random.Random, value: Any) -> Any:
    """A JSON value with something in it left out, or of another type or size."""
    if rng.random() < 0.15:
        return rng.choice(ODD_VALUES)
    match value:
        case dict() if value:
            name, left = rng.choice(sorted(value)), rng.randrange(8)
            rest = {other: kept for other, kept in value.items() if other != name}
            if left > 1:
                return value | {name: broken_json(rng, value[name])}
            return rest | {broken_text(rng, name): value[name]} if left else rest
        case list() if value:
            at = rng.randrange(len(value))
            return [*value[:at], *([broken_json(rng, value[at])] if rng.random() < 0.8 else []), *value[at + 1 :]]
        case str():
            return broken_text(rng, value)
    number = value if isinstance(value, (int, float)) else 1
    return rng.choice((*ODD_VALUES, -number, number + 1, number * 10.0**18, 0.5, 2**63, 10**400, float("nan")))


def misplace(rng: random.Random, path: Path) -> None:
    """Puts something else in the place of a file."""
    content = path.read_bytes()
    path.unlink()
    match rng.randrange(6):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to(path.name)
        case 2:
            path.symlink_to("nowhere")
        case 3:
            path.write_bytes(b"")
        case 4:
            path.write_bytes(content * 2)
        case _:
            pass
