"""A network as it was asked for, before it has parameters."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike

from jaxnet.experiment.networks.architecture import Architecture, architecture_of
from jaxnet.layer import Layer


class Network(NamedTuple):
    """All that it takes to build a network.

    Attributes:
      model: the architecture's name.
      options: the architecture's own.
      shape: of an example, as the network takes it.
      outputs: how many numbers come out for each example.
      output_activation: the name of what follows the last layer.
    """

    model: str
    options: Any
    shape: tuple[int, ...]
    outputs: int
    output_activation: str

    @property
    def architecture(self) -> Architecture:
        """Where it is said how such a network is built."""
        return architecture_of(self.model)

    @property
    def net(self) -> Layer:
        """The network itself."""
        return self.architecture.build(self.options, self.shape, self.outputs, self.output_activation)

    @property
    def settled(self) -> dict[str, Any]:
        """What those options came to that leave something open."""
        return self.architecture.settled(self.options, self.output_activation)

    @property
    def about(self) -> dict[str, Any]:
        """What exports say beside the arrays."""
        return self.architecture.about(self.options, self.shape, self.outputs)

    def __str__(self) -> str:
        described = self.architecture.described(self.options, self.shape, self.outputs)
        return f"{described}, output {self.output_activation}"

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        blank = jax.eval_shape(self.net.init, jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(blank))

    def inputs(self, examples: Any, dtype: DTypeLike) -> jax.ShapeDtypeStruct:
        """What it takes, for so many examples, as shapes alone."""
        return jax.ShapeDtypeStruct((examples, *self.shape), np.int32 if self.architecture.ids else dtype)
