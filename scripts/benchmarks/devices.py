"""What a device holds, computes and sends in a training step, worked out for as many devices as one likes.

Nothing is timed. The places of the parameters are those of `--mesh` (`Layout.of_params`), and the sums are those that
the partitioner adds, as a test finds them in the compiled program of eight simulated devices:

  over "data"   the gradient of what a device holds of the parameters, once a step
  over "model"  forward, the outputs of each layer that is split by its inputs; backward, the signal into each layer
                that is split by its outputs, but for the first; the examples' losses where the last outputs are split

A ring of n devices sums s bytes by sending 2 (n - 1) / n s from each (Patarasuk and Yuan, Bandwidth optimal all-reduce
algorithms for clusters of workstations, 2009).
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from benchmarks import report
from jaxnet.experiment.console import screen
from jaxnet.experiment.devices.mesh import AXES, Layout
from jaxnet.networks import mlp
from jaxnet.parameters import sides_of

NETS = {"4096-16384x4-4096": (4096, *4 * (16384,), 4096), "8192-65536x4-8192": (8192, *4 * (65536,), 8192)}
# data x model: 1, 8, 64 and 1024 devices.
MESHES = ((1, 1), (8, 1), (8, 8), (128, 8))
# Examples for each device along "data".
EXAMPLES = 2048
NUMBER = 4  # bytes, float32
# Parameters, their gradient, and Adam's two moments.
COPIES = 4


class Load(NamedTuple):
    """Of one device, in a step.

    Attributes:
      state: bytes of parameters, gradient and Adam's moments.
      cache: bytes that the backward pass needs of the forward pass, for ReLU.
      over_data, over_model: bytes that are summed with the other devices.
      operations: multiplications and additions.
    """

    state: int
    cache: int
    over_data: int
    over_model: int
    operations: int

    def sent(self, data: int, model: int) -> float:
        """Bytes that the device sends, in rings."""
        return 2 * (data - 1) / data * self.over_data + 2 * (model - 1) / model * self.over_model


def load(sizes: tuple[int, ...], examples: int, data: int, model: int) -> Load:
    """The load of a device in a mesh of data x model.

    Args:
      sizes: of the network: inputs, hidden widths, outputs.
      examples: in a batch, a multiple of `data`.
      data, model: devices along each axis.
    """
    layout = Layout(AbstractMesh((data, model), AXES, axis_types=(AxisType.Auto,) * 2))
    net, x = mlp(sizes), jax.ShapeDtypeStruct((1, sizes[0]), "float32")
    params = jax.eval_shape(net.init, jax.random.key(0))
    places = layout.of_params(net, params, sides_of(net, params, x), x)
    held = jax.tree.map(lambda leaf, place: math.prod(place.shard_shape(leaf.shape)), params, places)
    numbers = sum(jax.tree.leaves(held))
    weights = [layer for layer in places if layer != ()]
    rows, cache, summed = examples // data, 0, 0
    for position, ((inputs, outputs), place) in enumerate(zip(pairwise(sizes), weights, strict=True)):
        by_outputs, by_inputs = place.W.spec == PartitionSpec("model"), place.W.spec == PartitionSpec(None, "model")
        cache += rows * inputs * NUMBER // (model if by_inputs else 1)
        last = position == len(weights) - 1
        # The mask of ReLU, a byte for each value.
        cache += 0 if last else rows * outputs // (model if by_outputs else 1)
        summed += rows * outputs if by_inputs else 0
        summed += rows * inputs if by_outputs and position > 0 else 0
        summed += rows if by_outputs and last else 0
    matrices = sum(math.prod(leaf) for leaf in _shapes(params, places))
    # The first layer sends no signal on.
    operations = 2 * rows * (3 * matrices - math.prod(_shapes(params, places)[0]))
    loss = 1
    return Load(
        state=COPIES * numbers * NUMBER,
        cache=cache,
        over_data=(numbers + loss) * NUMBER if data > 1 else 0,
        over_model=summed * NUMBER,
        operations=operations,
    )


def _shapes(params, places):
    """Of what a device holds of each weight."""
    return [place.W.shard_shape(layer.W.shape) for layer, place in zip(params, places, strict=True) if layer != ()]


def run(out: Path) -> dict[str, Any]:
    """Prints the table and writes results.json.

    Args:
      out: the folder that is written into.
    """
    results: dict[str, Any] = {"benchmark": "devices", "examples": EXAMPLES}
    for name, sizes in NETS.items():
        rows = []
        for data, model in MESHES:
            of_device = load(sizes, EXAMPLES * data, data, model)
            sent = of_device.sent(data, model)
            rows.append(_row(data, model, of_device, sent))
            results[f"{name}, {data} x {model}"] = {**of_device._asdict(), "sent": sent}
        header = ("devices", "state, GB", "cache, GB", "sent, GB", "of it over model", "TFLOP", "FLOP / byte")
        heading = f"{name}, Adam, float32, {EXAMPLES} examples for each device along data"
        print(f"\n{screen.fill(heading)}\n")
        print(screen.table(header, rows))
    report.write_results(out, results)
    return results


def _row(data, model, of_device, sent):
    over_model = sent - of_device.sent(data, 1)
    return (
        f"{data * model} = {data} x {model}",
        f"{of_device.state / 1e9:.1f}",
        f"{of_device.cache / 1e9:.3f}",
        f"{sent / 1e9:.2f}",
        f"{over_model / sent:.0%}" if sent else "-",
        f"{of_device.operations / 1e12:.2f}",
        f"{of_device.operations / sent:,.0f}" if sent else "-",
    )
