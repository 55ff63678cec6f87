"""What a text is cut into, and the number of each piece: characters, bytes, or the pieces of a tokenizer."""

import codecs
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import BadInput, Failure, did_you_mean, first_line

CHARACTERS, BYTES, TOKENIZER = "characters", "bytes", "tokenizer"
# What is told of a character that cannot be seen.
ODD = "\ufffd"


class Tokens(NamedTuple):
    """The tokens of a text, by their ids.

    Attributes:
      kind: 'characters', 'bytes' or 'tokenizer'.
      texts: each token's text, in the order of the ids.
      tokenizer: what the file of one holds; empty for the others.
    """

    kind: str
    texts: tuple[str, ...]
    tokenizer: str = ""

    @property
    def unit(self) -> str:
        """What one of them is called."""
        return {CHARACTERS: "character", BYTES: "byte"}.get(self.kind, "token")

    @property
    def dtype(self) -> Any:
        """Of as few bytes as hold every id, and two at least."""
        return np.uint16 if len(self.texts) <= 2**16 else np.uint32

    def encode(self, text: str) -> np.ndarray:
        """The ids (t,) of a text.

        Raises:
          Unknown: naming the first character that is none of the tokens.
        """
        if self.kind == BYTES:
            return np.frombuffer(text.encode(errors="surrogateescape"), np.uint8).astype(self.dtype)
        if self.kind == TOKENIZER:
            # What is no text, as bytes of a command line may be, a tokenizer does not take.
            plain = text.encode(errors="replace").decode()
            return np.array(_Tokenizers.of(self.tokenizer).encode(plain).ids, self.dtype)
        letters = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
        known = np.array(list(map(ord, self.texts)), np.uint32)
        ids = np.minimum(np.searchsorted(known, letters), len(known) - 1)
        other = np.flatnonzero(known[ids] != letters)
        if len(other):
            raise Unknown(text[other[0]], int(other[0]))
        return ids.astype(self.dtype)

    def decode(self, ids: np.ndarray | Iterable[int]) -> str:
        """The text of ids; of bytes and pieces that are none, what Unicode has in their place."""
        if self.kind == BYTES:
            return bytes(int(k) for k in ids).decode(errors="replace")
        if self.kind == TOKENIZER:
            return _Tokenizers.of(self.tokenizer).decode([int(k) for k in ids], skip_special_tokens=False)
        return "".join(self.texts[k] for k in ids)


class Unknown(Exception):  # noqa: N818 of a text, told in words by who has it
    """A character that is none of the tokens, and its place."""

    def __init__(self, character: str, place: int) -> None:
        super().__init__(character, place)
        self.character, self.place = character, place


class Decoder:
    """From ids, one after the other, to text as far as it is sure."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens, self._shown = tokens, ""
        self._ids: list[int] = []
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def __call__(self, token: int) -> str:
        """What a further token adds."""
        if self._tokens.kind == BYTES:
            return self._bytes.decode(bytes([token]))
        if self._tokens.kind == CHARACTERS:
            return self._tokens.texts[token]
        self._ids.append(token)
        text = self._tokens.decode(self._ids)
        # A letter may be several pieces: until the last is there it is none.
        if text.endswith(ODD) or not text.startswith(self._shown):
            return ""
        more, self._shown = text[len(self._shown) :], text
        return more

    def rest(self) -> str:
        """What was held back, at the end."""
        if self._tokens.kind == TOKENIZER:
            return self._tokens.decode(self._ids)[len(self._shown) :]
        return self._bytes.decode(b"", final=True) if self._tokens.kind == BYTES else ""


def characters(letters: Iterable[str]) -> Tokens:
    """Each of the characters as a token, in the order of Unicode."""
    return Tokens(CHARACTERS, tuple(sorted(letters)))


BYTE_TOKENS = Tokens(BYTES, tuple(map(str, range(256))))


def of_tokenizer(name: str) -> Tokens:
    """The tokens of a tokenizer's file.

    Raises:
      BadInput: when there is none, or it cannot be read.
      Failure: when the package is missing.
    """
    path = Path(name)
    if path.suffix.lower() != ".json":
        near = did_you_mean(name, (CHARACTERS, BYTES))
        raise BadInput(f"--tokens {name}: expected characters, bytes or a tokenizer's .json file{near}")
    if not path.is_file():
        raise BadInput(f"--tokens {name}: no such file; expected a tokenizer's .json file")
    if not packages.is_there("tokenizers"):
        raise Failure(f"--tokens {name}: {packages.missing('tokenizers')}")
    try:
        content = path.read_text("utf-8")
        tokenizer = _Tokenizers.of(content)
    except OSError as error:
        raise BadInput(f"--tokens {name}: cannot be read ({error.strerror})") from None
    except Exception as error:  # the package raises plain exceptions
        told = f"expected a tokenizer as the package tokenizers saves it, got another file ({first_line(error)})"
        raise BadInput(f"--tokens {name}: {told}") from None
    texts = tuple(tokenizer.id_to_token(k) or "" for k in range(tokenizer.get_vocab_size()))
    if len(texts) < 2:
        raise BadInput(f"--tokens {name}: expected a tokenizer of at least 2 tokens, got {len(texts)}")
    return Tokens(TOKENIZER, texts, content)


class _Tokenizers:
    """Those that were made of a file's content: to make one takes longer than a short text."""

    _made: dict[str, Any] = {}  # noqa: RUF012 kept for the process

    @classmethod
    def of(cls, content: str) -> Any:
        if content not in cls._made:
            from tokenizers import Tokenizer

            cls._made[content] = Tokenizer.from_str(content)
        return cls._made[content]
