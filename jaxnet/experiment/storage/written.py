"""Text that a trained network writes."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.tokens import Decoder, Tokens, Unknown
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.training.writing import Writer

MOST = 10**9


def written(
    model: Model, prompt: str, length: int, *, temperature: float = 1.0, top_k: int | None = None, seed: int = 0
) -> Iterator[str]:
    """What a network of text writes after a prompt, piece by piece as it comes; the prompt is not repeated.

    Args:
      model: of a run on text.
      prompt: the text that it goes on from; without one, it begins behind the end of a line.
      length: how many tokens it writes.
      temperature, top_k: see `Writer`.
      seed: of what is drawn.

    Raises:
      BadInput: when the model is none of text, the prompt cannot be read, or a number is out of its range.
    """
    if model.tokens is None:
        raise BadInput("the network learnt no text, and writes none; `jaxnet predict` predicts with it")
    tokens = model.tokens
    _require(0 <= length <= MOST, "length", f"an integer from 0 to {MOST:,}", length)
    _require(0 <= temperature < np.inf, "temperature", "a number of at least 0", temperature)
    _require(top_k is None or 1 <= top_k < 2**31, "top-k", "an integer of at least 1", top_k)
    _require(0 <= seed < 2**32, "seed", "an integer from 0 to 2^32 - 1", seed)
    seen = ids_of(tokens, prompt) if prompt else behind_a_line(tokens)
    return _pieces(model, seen if len(seen) else behind_a_line(tokens), length, temperature, top_k, seed)


def ids_of(tokens: Tokens, prompt: str) -> np.ndarray:
    """The ids of a prompt's tokens.

    Raises:
      BadInput: naming the first character that is none of them.
    """
    try:
        return tokens.encode(prompt)
    except Unknown as unknown:
        known = f"one of the {len(tokens.texts)} characters that the network has learnt"
        got = f"got {unknown.character!r} at place {unknown.place + 1}"
        raise BadInput(f"--prompt: expected only characters that are {known}, {got}") from None


def _pieces(model, seen, length, temperature, top_k, seed):
    with jax.enable_x64(model.dtype == np.float64):
        writer, params = Writer(model.network.net, model.network.shape[0]), jax.tree.map(jnp.asarray, model.params)
        key, decoder = jax.random.key(np.uint32(seed)), Decoder(model.tokens)
        for token in writer(params, seen, length, temperature=temperature, top=top_k, key=key):
            if piece := decoder(token):
                yield piece
        if piece := decoder.rest():
            yield piece


def behind_a_line(tokens: Tokens) -> np.ndarray:
    """The ids of the end of a line; without one, the first token."""
    try:
        ids = tokens.encode("\n")
    except Unknown:
        ids = np.zeros(0, int)
    return ids if len(ids) else np.zeros(1, int)


def _require(fits, name, expected, value):
    if not fits:
        raise BadInput(f"--{name}: expected {expected}, got {value}")
