"""A file of cells separated by commas, semicolons or tabs, line by line, in the encoding that it has."""

import codecs
import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxnet.experiment.console.errors import BadInput

# By the ending of the file's name, what separates its cells, the likelier first; and what separators are called.
SEPARATORS = {".csv": (",", ";", "\t"), ".tsv": ("\t",)}
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons"}
# Characters. What a gzipped file unpacks to has no other limit.
LONGEST_LINE = 2**24
PIECE = 2**20
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Form(NamedTuple):
    """How a file is written.

    Attributes:
      encoding: as Python calls it.
      separator: of its cells.
    """

    encoding: str
    separator: str


def is_one(path: Path) -> bool:
    """Whether the file's name says that this reads it."""
    return ending(path) in SEPARATORS


def ending(path: Path) -> str:
    """'.csv' of a.csv and of a.csv.gz."""
    return (Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix).lower()


def form_of(path: Path) -> Form:
    """How a file is written: its encoding by all of it, its separator by its first line.

    Raises:
      BadInput: when it cannot be read.
    """
    with _told(path):
        encoding = _encoding(path)
        with _open(path, encoding) as file:
            first = next(_lines(path, file), "")
    counts = {separator: len(next(csv.reader([first], delimiter=separator), [])) for separator in NAMES}
    expected = SEPARATORS[ending(path)]
    separator = max(expected, key=lambda one: counts[one])
    found = max(NAMES, key=lambda one: counts[one])
    if counts[separator] < 2 <= counts[found]:
        raise BadInput(
            f"--data {path}: expected cells separated by {NAMES[separator]}, got {NAMES[found]}; "
            f"save it with {NAMES[separator]}, or name it .csv"
        )
    return Form(encoding, separator)


def rows(path: Path, form: Form) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every line that is not blank; the first, with the column names, may be.

    Raises:
      BadInput: when it cannot be read, naming the line.
    """
    read = 0
    with _told(path):
        try:
            with _open(path, form.encoding) as file:
                reader = csv.reader(_lines(path, file), delimiter=form.separator, strict=True)
                for cells in reader:
                    if cells or not read:
                        yield reader.line_num, cells
                    read = reader.line_num
        except csv.Error as error:
            what = "a quoted cell is not closed" if "end of data" in str(error) else str(error)
            expected = f"expected values separated by {NAMES[form.separator]}"
            raise BadInput(f"--data {path}, from line {read + 1} on: {expected}, but {what}") from None


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system says of a file, in one line."""
    try:
        yield
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"--data {path}: cannot be read ({why})") from None


def _encoding(path):
    """UTF-16 where the file begins with its mark, else UTF-8 where all of it is, else Latin-1, in which anything is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _binary(path) as file:
        piece = file.read(PIECE)
        if piece.startswith(UTF_16):
            return "utf-16"
        try:
            while piece:
                decoder.decode(piece)
                piece = file.read(PIECE)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"


def _binary(path: Path) -> Any:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _open(path: Path, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(_binary(path), encoding=encoding, newline="")


def _lines(path, file):
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise BadInput(f"--data {path}, line {number}: expected fewer than {LONGEST_LINE:,} characters in a line")
        yield line
