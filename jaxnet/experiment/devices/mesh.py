"""Which device holds what: the examples are split over a mesh's axis "data", neurons over its axis "model".

Nothing is sent by hand. Arrays are given their places, and JAX's partitioner adds what a program needs: over "data" a
sum of gradients; over "model" a sum of outputs after every second layer, since the layers are split in turns: the first
by its outputs, so that each device has some hidden neurons; the next by its inputs, where these neurons are; and so on.

Source: Xu et al., GSPMD, 2021; Shoeybi et al., Megatron-LM, 2019, section 3.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.networks.network import Network
from jaxnet.experiment.options.train_config import read_mesh
from jaxnet.layers.dense import Dense
from jaxnet.training import TrainState

AXES = ("data", "model")


class Layout(NamedTuple):
    """A mesh of data x model devices, and where arrays lie on it.

    Attributes:
      mesh: with the axes "data" and "model"; an abstract one, without devices, tells places only.
    """

    mesh: Mesh | AbstractMesh

    @property
    def data(self) -> int:
        """Over how many devices examples are split."""
        return self.mesh.shape["data"]

    def places(self, *axes: str | None) -> NamedSharding:
        """Split by these axes of the mesh, an array's first axis first; the rest, or all, is on every device."""
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def padded(self, examples: int) -> int:
        """So many examples, filled up to what the devices divide."""
        return -(-examples // self.data) * self.data

    def put(self, read: Callable[[Any], np.ndarray], shape: tuple[int, ...], *axes: str | None) -> jax.Array:
        """An array on the mesh, of which each process reads only what its devices hold.

        Args:
          read: from slices, one for each axis, to the array's values there.
          shape: of the whole array.
          axes: as for `places`.
        """
        known: dict[Any, np.ndarray] = {}

        def read_once(index):
            # Devices along "model" hold the same rows.
            key = tuple((part.start, part.stop) for part in index)
            if key not in known:
                known[key] = read(index)
            return known[key]

        return jax.make_array_from_callback(shape, self.places(*axes), read_once)

    def of_params(self, params: Any) -> Any:
        """Places for the parameters of a chain of layers; those whose widths do not divide stay whole."""
        model, split, places = self.mesh.shape["model"], False, []
        for layer in params:
            whole = jax.tree.map(lambda leaf: self.places(), layer)
            if not isinstance(layer, Dense) or model == 1:
                places.append(whole)
            elif split:
                places.append(Dense(W=self.places(None, "model"), b=self.places()))
                split = False
            else:
                split = layer.W.shape[0] % model == 0
                places.append(Dense(W=self.places("model"), b=self.places("model")) if split else whole)
        return tuple(places)

    def of_state(self, state: TrainState) -> TrainState:
        """Places for all that training changes: what an optimizer keeps for a parameter lies where that lies."""
        params = self.of_params(state.params)
        leaves, _ = jax.tree_util.tree_flatten_with_path(state.params)
        known = [
            (tuple(path), leaf.shape, places)
            for (path, leaf), places in zip(leaves, jax.tree.leaves(params), strict=True)
        ]

        def of_leaf(path, leaf):
            for end, shape, places in known:
                if tuple(path[-len(end) :]) == end and leaf.shape == shape:
                    return places
            return self.places()

        return jax.tree_util.tree_map_with_path(of_leaf, state)

    def fetch(self, tree: Any) -> Any:
        """Arrays on the mesh as NumPy's, whole, in every process."""
        return multihost_utils.process_allgather(tree, tiled=True)


def make_layout(mesh: str | None = None, *, distributed: bool = False) -> Layout:
    """The mesh of `--mesh`; by default one device, or with `--distributed` all, for examples.

    Raises:
      BadInput: when there are fewer devices, or a process would have none of them.
    """
    sizes = read_mesh(mesh, len(jax.devices()) if distributed else 1)
    asked, devices = math.prod(sizes), jax.devices()
    if asked > len(devices):
        simulate = f"; JAX_NUM_CPU_DEVICES={asked} simulates them" if devices[0].platform == "cpu" else ""
        raise BadInput(f"--mesh {mesh}: needs {asked} devices, and JAX finds {len(devices)}{simulate}")
    if jax.process_count() > 1 and asked != len(devices):
        raise BadInput(f"--mesh {mesh}: expected all {len(devices)} devices of all processes, got {asked}")
    return Layout(jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 2, devices=devices[:asked]))


def require_split(layout: Layout, network: Network) -> None:
    """Refuses a mesh that splits neurons, and a network of which it splits none.

    Raises:
      BadInput: saying so.
    """
    model = layout.mesh.shape["model"]
    places = layout.of_params(jax.eval_shape(network.net.init, jax.random.key(0)))
    if model > 1 and all(place.is_fully_replicated for place in jax.tree.leaves(places)):
        raise BadInput(f"--mesh model={model}: divides the outputs of no layer of the network {network}")
