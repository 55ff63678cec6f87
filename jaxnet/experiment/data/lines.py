"""A file of cells separated by commas, semicolons or tabs, line by line, in the encoding that it has."""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
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
# Encodings that a file does not say it has, as people call them: they are told. The first two know any byte, or most.
UNMARKED = {
    "latin-1": "Latin-1",
    "cp1252": "Latin-1 as Windows has it",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
}
LATIN = ("latin-1", "cp1252")
# What stands in Windows' Latin-1 where the standard has characters that nobody writes, but for those without a meaning.
OF_WINDOWS = frozenset(range(0x80, 0xA0))
WITHOUT_MEANING = {0x81, 0x8D, 0x8F, 0x90, 0x9D}
# Of numbers, separators and western letters in UTF-16 every second byte is 0; in text of one byte a letter, none is.
LEAST_ZEROS = 0.25
INDEX = "index"
# So many lines tell whether each has a cell more than the first.
LINES_LOOKED_AT = 100


class Form(NamedTuple):
    """How a file is written.

    Attributes:
      encoding: as Python calls it.
      separator: of its cells.
      names_rows: whether each line begins with a cell that the line of column names lacks, as R writes tables.
    """

    encoding: str
    separator: str
    names_rows: bool = False


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
    form = Form(encoding, separator)
    return form._replace(names_rows=_names_rows(path, form))


def _names_rows(path, form):
    try:
        (_, header), *below = itertools.islice(rows(path, form), LINES_LOOKED_AT)
    except (BadInput, ValueError):
        # Told by whoever reads it.
        return False
    return bool(below) and all(len(cells) == len(header) + 1 and cells[-1].strip() for _, cells in below)


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
    decoder, seen = codecs.getincrementaldecoder("utf-8")(), set[int]()
    with _binary(path) as file:
        piece = file.read(PIECE)
        if piece.startswith(UTF_16):
            return "utf-16"
        for encoding, zeros in (("utf-16-le", piece[1::2]), ("utf-16-be", piece[::2])):
            if zeros.count(0) > LEAST_ZEROS * len(zeros):
                return encoding
        try:
            while piece:
                seen |= OF_WINDOWS.intersection(piece)
                decoder.decode(piece)
                piece = file.read(PIECE)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            while piece := file.read(PIECE):
                seen |= OF_WINDOWS.intersection(piece)
            return "cp1252" if seen and not seen & WITHOUT_MEANING else "latin-1"
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
