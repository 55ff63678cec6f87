"""Where texts come from: the one that every Python ships, .txt files and folders of them, and files of tokens."""

import hashlib
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.experiment.console.errors import BadInput, did_you_mean
from jaxnet.experiment.data import named
from jaxnet.experiment.data import tokens as kinds
from jaxnet.experiment.data.mapped import map_npy
from jaxnet.experiment.data.tokens import BYTE_TOKENS, Tokens
from jaxnet.experiment.devices.memory import require_memory

PYTHON_DOCS = "python-docs"
ENDING, OF_TOKENS = ".txt", ".npy"
EXPECTED = f"expected {PYTHON_DOCS}, a .txt file, a folder of them, or a .npy file of tokens"
# Characters, or bytes, that are read at a time; a piece then goes on to the end of its line.
PIECE = 2**20
# Of tokens in a file, so many are compared, evenly spread, to know the file again.
COMPARED = 2**16


class Text(NamedTuple):
    """A text as the ids of its tokens.

    Attributes:
      name: of where it came from.
      ids: (n,), in memory or mapped into it.
      tokens: what they mean.
      on_disk: whether the ids stay there.
      notes: what was found out of it.
      fingerprint: a SHA-256, by which it is known again.
    """

    name: str
    ids: np.ndarray
    tokens: Tokens
    on_disk: bool
    notes: tuple[str, ...]
    fingerprint: str


def is_one(source: str) -> bool:
    """Whether the name is that of a text, by itself."""
    if source == PYTHON_DOCS or source.lower().endswith(ENDING):
        return True
    path = Path(source)
    return path.is_dir() and not (path / "x.npy").exists() and any(path.glob(f"*{ENDING}"))


def read(source: str, kind: str, *, stream: bool = False) -> Text:
    """A text, cut into tokens.

    Args:
      source: python-docs, a .txt file or a folder of them, or a .npy file of ids.
      kind: characters, bytes, or a tokenizer's file.
      stream: leave the tokens on disk; those of a text are written there first, two bytes for each.

    Raises:
      BadInput: naming what cannot be read, and what was expected.
    """
    if source.lower().endswith(OF_TOKENS):
        return _of_tokens(Path(source), kind, stream)
    paths = [] if source == PYTHON_DOCS else _paths(source)
    if kind == kinds.BYTES and stream and len(paths) == 1:
        return _mapped(paths[0])
    if kind == kinds.CHARACTERS:
        letters: set[str] = set()
        for piece in _pieces(paths, raw=False):
            letters.update(piece)
        tokens = kinds.characters(letters)
    else:
        tokens = BYTE_TOKENS if kind == kinds.BYTES else kinds.of_tokenizer(kind)
    hashed = hashlib.sha256(f"{tokens.kind}\n{tokens.tokenizer}\n".encode())
    ids = _written(paths, tokens, hashed) if stream else _held(paths, tokens, hashed)
    notes: tuple[str, ...] = ()
    if not paths:
        notes = (f"{source} as Python {platform.python_version()} ships it, SHA-256 {_docs_hash()}",)
    return Text(source, ids, tokens, stream, notes, hashed.hexdigest())


def _docs():
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _docs_hash():
    return hashlib.sha256(_docs().encode()).hexdigest()[:16]


def _paths(source):
    path = Path(source)
    if not source.strip():
        raise BadInput(f"--data: {EXPECTED}; got an empty name")
    try:
        found = [path] if path.is_file() else sorted(path.rglob(f"*{ENDING}"))
        exists = path.exists()
    except OSError as error:
        raise BadInput(f"--data {source[:40]}...: cannot be read ({error.strerror})") from None
    if not exists:
        what = "holds no text" if source in named.NAMES else "no such text"
        raise BadInput(f"--data {source}: {what}; {EXPECTED}{did_you_mean(source, [PYTHON_DOCS])}")
    if path.is_file() and path.suffix.lower() != ENDING:
        raise BadInput(f"--data {source}: {EXPECTED}; rename a text in another file to end with {ENDING}")
    if not found:
        raise BadInput(f"--data {source}: holds no {ENDING} file; {EXPECTED}")
    return found


def _pieces(paths: list[Path], *, raw: bool) -> Iterator[Any]:
    """The text in pieces that end with a line, or its bytes; between two files is the end of a line."""
    if not paths:
        text = _docs()
        yield text.encode() if raw else text
    for number, path in enumerate(paths):
        try:
            file: Any = path.open("rb") if raw else path.open(encoding=_encoding(path))
            with file:
                while piece := file.read(PIECE):
                    yield piece if raw else piece + file.readline(PIECE)
        except OSError as error:
            raise BadInput(f"--data {path}: cannot be read ({error.strerror})") from None
        except UnicodeError as error:
            at = f"byte {error.start + 1} of a piece" if isinstance(error, UnicodeDecodeError) else "it"
            remedy = "save it as UTF-8, or take it byte by byte with --tokens bytes"
            raise BadInput(f"--data {path}: expected text in UTF-8, and {at} is none; {remedy}") from None
        if number + 1 < len(paths):
            yield b"\n" if raw else "\n"


def _encoding(path):
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _encoded(paths, tokens, hashed):
    """The ids of each piece, noted in the hash."""
    raw = tokens.kind == kinds.BYTES
    for piece in _pieces(paths, raw=raw):
        ids = np.frombuffer(piece, np.uint8).astype(tokens.dtype) if raw else tokens.encode(piece)
        hashed.update(ids.astype("<u4").tobytes())
        yield ids


def _held(paths, tokens, hashed):
    # Texts of so many bytes have at most as many tokens, which take 4 bytes each on the device, and as much here.
    for path in paths:
        require_memory(path, (path.stat().st_size,))
    return np.concatenate([np.zeros(0, tokens.dtype), *_encoded(paths, tokens, hashed)])


def _written(paths, tokens, hashed):
    """The ids in a file of the system's folder for such, which is gone when nobody maps it any more."""
    try:
        with tempfile.TemporaryFile() as file:
            count = 0
            for ids in _encoded(paths, tokens, hashed):
                file.write(ids.tobytes())
                count += len(ids)
            file.flush()
            if not count:
                return np.zeros(0, tokens.dtype)
            mapped: Any = np.memmap(file, tokens.dtype, "r", shape=(count,))
            return np.asarray(mapped)
    except OSError as error:
        where = tempfile.gettempdir()
        raise BadInput(f"--stream: tokens cannot be written to {where} ({error.strerror}); set TMPDIR") from None


def _mapped(path):
    """A file's bytes, which are its tokens."""
    if not path.stat().st_size:
        raise BadInput(f"--data {path}: expected a text, got an empty file")
    ids = np.asarray(np.memmap(path, np.uint8, "r"))
    return Text(str(path), ids, BYTE_TOKENS, True, (), _compared(ids, BYTE_TOKENS))


def _of_tokens(path, kind, stream):
    """Ids that someone has made of a text before."""
    if kind == kinds.CHARACTERS:
        raise BadInput(f"--data {path}: holds tokens; --tokens says of which kind: bytes, or a tokenizer's .json file")
    ids = map_npy(path)
    if ids.ndim != 1 or ids.dtype not in (np.uint8, np.uint16, np.uint32):
        raise BadInput(f"--data {path}: expected ids (n,) of uint8, uint16 or uint32, got {ids.dtype} {ids.shape}")
    tokens = BYTE_TOKENS if kind == kinds.BYTES else kinds.of_tokenizer(kind)
    # Of a run's processes each looks at other pieces.
    for start in range(0, len(ids), PIECE)[jax.process_index() :: jax.process_count()]:
        wrong = np.flatnonzero(ids[start : start + PIECE] >= len(tokens.texts))
        if len(wrong):
            at = start + int(wrong[0])
            raise BadInput(f"--data {path}: expected ids below {len(tokens.texts)}, got {ids[at]} at place {at + 1}")
    if not stream:
        require_memory(path, (len(ids),))
        ids = np.array(ids)
    return Text(str(path), np.asarray(ids), tokens, stream, (), _compared(ids, tokens))


def _compared(ids, tokens):
    """A SHA-256 of how many there are, and of some of them."""
    hashed = hashlib.sha256(f"{len(ids)}\n{tokens.kind}\n{tokens.tokenizer}\n".encode())
    some = np.unique(np.linspace(0, len(ids) - 1, COMPARED).astype(np.int64))
    hashed.update(ids[some].astype("<u4").tobytes())
    return hashed.hexdigest()
