"""samples.txt: what a network of text writes after each epoch."""

import re
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from jaxnet.experiment.console.errors import Failure
from jaxnet.experiment.networks.network import Network
from jaxnet.experiment.storage import durable
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.storage.written import behind_a_line
from jaxnet.experiment.training.writing import Writer

FILE = "samples.txt"
# Of each sample, in tokens.
LENGTH = 256
WIDE = 72
HEADER = re.compile(r"^==== epoch (\d+) =+$", re.MULTILINE)


class Samples:
    """The file as a run writes it; one that goes on keeps those of its epochs."""

    def __init__(self, folder: Path, network: Network, seed: int) -> None:
        self._path, self._network, self._seed = folder / FILE, network, seed

    @cached_property
    def _writer(self):
        return Writer(self._network.net, self._network.shape[0])

    def begin(self, epochs: int) -> None:
        """Keeps the samples of so many epochs."""
        text = self._path.read_text("utf-8", errors="replace") if self._path.exists() else ""
        later = next((match.start() for match in HEADER.finditer(text) if int(match[1]) > epochs), len(text))
        durable.write(self._path, text[:later].encode())

    def add(self, epoch: int, model: Model) -> None:
        """Writes what the model writes after an epoch, behind the end of a line.

        Raises:
          Failure: when the file cannot be written.
        """
        assert model.tokens is not None
        key = jax.random.fold_in(jax.random.key(np.uint32(self._seed)), epoch)
        seen = behind_a_line(model.tokens)
        text = model.tokens.decode(self._writer(model.params, seen, LENGTH, key=key))
        try:
            # Without a surrogate, which no file holds.
            sample = f"{f'==== epoch {epoch} ':=<{WIDE}}\n{text}\n".encode(errors="replace").decode()
            durable.add_line(self._path, sample)
        except OSError as error:
            raise Failure(f"{self._path}: cannot be written ({error.strerror})") from None
