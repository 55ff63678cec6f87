"""Text by a network that tells what follows: token by token, each of which it then has seen too."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.decoding import decoder
from jaxnet.layer import Layer


class Writer:
    """A network that writes, compiled once for whatever it is asked.

    Where it has room for so many tokens alone, and they are full, it goes on from the last half of them.
    """

    def __init__(self, net: Layer, context: int) -> None:
        going_on = decoder(net, context)
        self._start, self._room = jax.jit(going_on.start), going_on.room

        def step(params, state, token, key, temperature, top):
            z, state = going_on.step(params, state, token)
            return state, _drawn(z[0, -1], key, temperature, top)[None, None]

        self._step = jax.jit(step, donate_argnums=1)

    def __call__(
        self,
        params: Any,
        seen: Sequence[int] | np.ndarray,
        length: int,
        *,
        temperature: float = 1.0,
        top: int | None = None,
        key: jax.Array,
    ) -> Iterator[int]:
        """The tokens that follow, one by one as they are drawn.

        Args:
          params: the network's.
          seen: the tokens that it goes on from, at least one; of more than it has room for the last.
          length: how many tokens to draw.
          temperature: outputs are divided by it; with 0 the most probable token is taken.
          top: how many of the most probable tokens are drawn from; None for all.
          key: of the draws, with the number of each folded in.
        """
        seen = [int(token) for token in seen]
        ahead = seen if self._room is None else seen[-self._room :]
        most = np.int32(2**31 - 1 if top is None else top)
        # Shapes count; of the numbers none.
        state, filled = self._start(params, _ids(0)), 0
        for number in range(length):
            if self._room is not None and filled + len(ahead) > self._room:
                ahead = seen[-max(1, self._room // 2) :]
                state, filled = self._start(params, _ids(0)), 0
            for token in ahead:
                drawn_by = jax.random.fold_in(key, number)
                state, drawn = self._step(params, state, _ids(token), drawn_by, np.float32(temperature), most)
            filled += len(ahead)
            ahead = [int(drawn[0, 0])]
            seen += ahead
            yield ahead[0]


def _ids(token):
    return np.full((1, 1), token, np.int32)


def _drawn(z, key, temperature, top):
    """A token by its probability, among the most probable ones."""
    z = z.astype(jnp.float32)
    least = jnp.sort(z)[jnp.maximum(0, len(z) - top)]
    among = jnp.where(z >= least, z, -jnp.inf)
    # A temperature may be so low that outputs overflow: their largest is taken from them first.
    likely = (among - among.max()) / jnp.maximum(temperature, jnp.finfo(jnp.float32).tiny)
    drawn = jax.random.categorical(key, jnp.maximum(likely, jnp.finfo(jnp.float32).min))
    return jnp.where(temperature == 0, among.argmax(), drawn).astype(jnp.int32)
