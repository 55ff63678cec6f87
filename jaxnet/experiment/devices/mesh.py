"""Which device holds what: the examples are split over a mesh's axis "data", neurons over its axis "model".

Nothing is sent by hand. Arrays are given their places, and JAX's partitioner adds what a program needs: over "data" a
sum of gradients; over "model" a sum of outputs after every second layer, since the layers are split in turns: the first
by its outputs, so that each device has some hidden neurons; the next by its inputs, where these neurons are; and so on.

Source: Xu et al., GSPMD, 2021; Shoeybi et al., Megatron-LM, 2019, section 3.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import PyTree

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.networks.network import Network
from jaxnet.experiment.options.mesh_sizes import read_mesh
from jaxnet.layer import Layer
from jaxnet.parameters import Sides, seen_by_layer, sides_of, structure_by_layer
from jaxnet.training import TrainState

AXES = ("data", "model")


class Layout(NamedTuple):
    """A mesh of data x model devices, and where arrays lie on it.

    Attributes:
      mesh: with the axes "data" and "model"; an abstract one, without devices, tells places only.
      shard_state: whether parameters, and what optimizers keep of them, are split over "data" too.
    """

    mesh: Mesh | AbstractMesh
    shard_state: bool = False

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

    def of_params(self, net: Layer, params: Any, sides: PyTree[Sides], x: Any) -> Any:
        """Places for a network's parameters: layers with weights take turns; what does not divide stays whole.

        Layers that see the same x, as those that make queries, keys and values, are in the same turn, so that each
        device has some heads; what looks ids up, as a table that is a head's weight too, is in none, and is split by
        its rows.

        Args:
          net: the network.
          params: their shapes.
          sides: see `parameters.sides_of`.
          x: its inputs, or their shapes.
        """
        structure, places = structure_by_layer(net), []
        turn, last, seen_last = "outputs", "outputs", None
        for layer, of_layer, seen in zip(
            *map(structure.flatten_up_to, (params, sides)), seen_by_layer(net, params, x), strict=True
        ):
            ids = all(jnp.issubdtype(part.dtype, jnp.integer) for part in jax.tree.leaves(seen))
            this = "outputs" if ids else last if seen is seen_last else turn
            widths = [
                leaf.shape[getattr(of_leaf, this)]
                for leaf, of_leaf in zip(jax.tree.leaves(layer), jax.tree.leaves(of_layer), strict=True)
                if of_leaf.is_weight
            ]
            split = self.mesh.shape["model"] > 1 and all(width % self.mesh.shape["model"] == 0 for width in widths)
            place = partial(self._of_param, this, widths) if split else lambda *_: self.places()
            places.append(jax.tree.map(place, layer, of_layer))
            if widths and not ids:
                turn, last, seen_last = "inputs" if split and this == "outputs" else "outputs", this, seen
        return structure.unflatten(places)

    def _of_param(self, side, widths, leaf, sides):
        """Split over "model": a weight by its outputs or inputs, and with the outputs what there is one of for each."""
        if sides.is_weight:
            return self.places(*[None] * getattr(sides, side), "model")
        for_each_output = side == "outputs" and leaf.shape[-1:] and leaf.shape[-1] in widths
        return self.places(*[None] * (leaf.ndim - 1), "model") if for_each_output else self.places()

    def between_steps(self, params: Any, sides: PyTree[Sides], places: PyTree[NamedSharding]) -> PyTree[NamedSharding]:
        """Where parameters lie between steps: as they are used, and with `shard_state` split over "data" besides.

        Args:
          params: their shapes.
          sides: see `parameters.sides_of`.
          places: where they are wanted while they are used, see `of_params`.
        """
        return jax.tree.map(self._over_data, params, sides, places) if self.shard_state else places

    def _over_data(self, leaf, sides, place):
        """Split by the longest axis that divides and is whole; axes of a stack, which a scan goes through, are not."""
        spec = [*place.spec, *[None] * (leaf.ndim - len(place.spec))]
        axes = range(min(sides.outputs, sides.inputs), leaf.ndim) if sides.is_weight else range(leaf.ndim)[-1:]
        free = [axis for axis in axes if spec[axis] is None and leaf.shape[axis] % self.data == 0]
        if not free:
            return place
        spec[max(free, key=lambda axis: leaf.shape[axis])] = "data"
        return self.places(*spec)

    def of_state(self, state: TrainState, params: Any) -> TrainState:
        """Places for all that training changes: what an optimizer keeps for a parameter lies where that lies.

        Args:
          state: its shapes.
          params: the places of its parameters.
        """
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


def make_layout(mesh: str | None = None, *, distributed: bool = False, shard_state: bool = False) -> Layout:
    """The mesh of `--mesh`; by default one device, or with `--distributed` all, for examples.

    Args:
      mesh: as the option has it.
      distributed: whether this is one process of several.
      shard_state: see `Layout`.

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
    if shard_state and sizes[0] == 1:
        raise BadInput("--shard-state: splits over the devices for examples, of which there is one; add --mesh data=2")
    auto = (AxisType.Auto,) * 2
    return Layout(jax.make_mesh(sizes, AXES, axis_types=auto, devices=devices[:asked]), shard_state)


def require_split(layout: Layout, network: Network, dtype: DTypeLike) -> None:
    """Refuses a mesh that splits neurons, and a network of which it splits none.

    Raises:
      BadInput: saying so.
    """
    model, net = layout.mesh.shape["model"], network.net
    if model == 1:
        return
    params = jax.eval_shape(net.init, jax.random.key(0))
    x = network.inputs(1, dtype)
    places = layout.of_params(net, params, sides_of(net, params, x), x)
    if all(place.is_fully_replicated for place in jax.tree.leaves(places)):
        raise BadInput(f"--mesh model={model}: divides the outputs of no layer of the network {network}")
