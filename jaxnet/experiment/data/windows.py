"""Examples of a text: so many tokens in a row as a network sees at a time, and at each of them the one that follows."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.scaling import Scaling
from jaxnet.experiment.data.source import Change
from jaxnet.experiment.data.split import Part, Split
from jaxnet.experiment.data.texts import Text

# Of a text, the share of each of the parts that are held out at its end, and how many tokens of it at most.
TAIL, LONGEST_TAIL = 0.05, 2**20


@dataclasses.dataclass(frozen=True)
class Windows:
    """A `Source` of the windows of a text: example k is ids[start + k stride : ... + context].

    Attributes:
      ids: (n,), of a text's tokens.
      context: tokens of a window.
      count: of windows.
      stride: from one to the next, in tokens.
      on_disk: whether the ids are.
    """

    ids: np.ndarray
    context: int
    count: int
    stride: int = 1
    on_disk: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.count, self.context

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        starts = np.arange(self.count)[rows] if isinstance(rows, slice) else np.asarray(rows)
        return self.ids[starts[..., None] * self.stride + np.arange(self.context)].astype(np.int32)

    def read(self, rows: np.ndarray | slice, dtype: Any) -> np.ndarray:
        """Ids are whole numbers, whatever the type of the arithmetic."""
        return self[rows]

    def at(self, rows: np.ndarray) -> "Windows":
        raise NotImplementedError("windows overlap: they are taken by their places")

    def scaled(self, scaling: Change) -> "Windows":
        return self

    def shaped(self, example: tuple[int, ...]) -> "Windows":
        return self


class Epoch(NamedTuple):
    """Which of the windows make up an epoch: all tokens once, or as many of those windows as were asked for.

    Attributes:
      of_pass: windows beside one another that the text has room for, wherever the first begins.
      context: tokens of each.
      examples: how many of them an epoch has.
    """

    of_pass: int
    context: int
    examples: int

    def rows(self, key: jax.Array) -> np.ndarray:
        """Where they begin, (examples,): beside one another, from a token that is drawn by the key."""
        offset, bits = jax.device_get(_drawn(key, self.context, self.of_pass))
        return np.argsort(bits, kind="stable")[: self.examples] * self.context + int(offset)


def windows_of(text: Text, context: int, batch_size: int, epoch_steps: int | None, *, disjoint: bool = False) -> Split:
    """The parts of a text: its beginning to learn from, and at its end one for validation and one for the test.

    Args:
      text: as it was read.
      context: tokens of an example.
      batch_size, epoch_steps: of the options.
      disjoint: whether the windows to learn from have places of their own, with the token that follows each: then a
        token is in one example alone. By default an epoch begins with any token, and has all of them.

    Raises:
      BadInput: when it is too short, or has fewer windows than an epoch would take.
    """
    n = len(text.ids)
    tail = min(int(n * TAIL), LONGEST_TAIL)
    first = n - 2 * tail
    if tail < context + 1 or first < 2 * context:
        least = int(np.ceil((context + 1) / TAIL))
        raise BadInput(
            f"--data {text.name}: has {n:,} {text.tokens.unit}s; a --context of {context} takes {least:,} at least"
        )
    if disjoint:
        training = {"stride": context + 1, "count": first // (context + 1)}
    else:
        epoch = _epoch(first, context, batch_size, epoch_steps)
        training = {"stride": 1, "count": first - context, "epoch": epoch}

    def part(start, end, stride, count, epoch=None):
        x, y = (Windows(text.ids[start + k : end], context, count, stride, text.on_disk) for k in (0, 1))
        return Part(x, y, epoch=epoch)

    held_out = (tail - 1) // context
    return Split(
        part(0, first, **training),
        part(first, first + tail, context, held_out),
        part(first + tail, n, context, held_out),
        Scaling(np.zeros(0), np.ones(0), np.array([-np.inf, np.inf])),
        (),
        (),
    )


def _epoch(first, context, batch_size, epoch_steps):
    """Of a training part of so many tokens."""
    of_pass = first // context - 1
    examples = of_pass if epoch_steps is None else epoch_steps * batch_size
    if examples > of_pass:
        most = max(1, of_pass // batch_size)
        raise BadInput(
            f"--epoch-steps {epoch_steps}: the training part has {of_pass:,} windows, for at most {most:,} steps of "
            f"--batch-size {batch_size}; give more --epochs"
        )
    return Epoch(of_pass, context, examples)


def next_token(text: Text) -> Problem:
    """What is to be learnt: at each token of a window, which one follows."""
    if len(text.tokens.texts) < 2:
        raise BadInput(f"--data {text.name}: expected a text of at least 2 different characters")
    return Problem(
        kind=f"the next of {len(text.tokens.texts)} {text.tokens.unit}s",
        targets=(f"next {text.tokens.unit}",),
        classes=text.tokens.texts,
        loss="softmax_cross_entropy_with_integer_labels",
        output_activation="identity",
        mean=np.zeros(0),
        scale=np.zeros(0),
        positions=True,
    )


_drawn: Callable[..., Any] = jax.jit(
    lambda key, context, count: (
        jax.random.randint(jax.random.fold_in(key, 0), (), 0, context),
        jax.random.bits(jax.random.fold_in(key, 1), (count,)),
    ),
    static_argnums=(1, 2),
)
