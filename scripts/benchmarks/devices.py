"""What each of 1 to 1024 devices holds, computes and sends in a training step, see `load`. Nothing is timed."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks import report
from benchmarks.load import NUMBER, OF_LABELS, Load, Sent, load
from jaxnet.experiment.console import screen
from jaxnet.layer import Layer
from jaxnet.networks import mlp, transformer


class Mesh(NamedTuple):
    """Devices for examples and for neurons, and whether the state is split over those for examples."""

    data: int
    model: int = 1
    shard_state: bool = False

    def __str__(self) -> str:
        split = ", shard-state" if self.shard_state else ""
        return f"{self.data * self.model} = {self.data} x {self.model}{split}"


class Network(NamedTuple):
    """A network that is looked at.

    Attributes:
      net: the network.
      x: the inputs of one place along "data".
      told: what these are.
      of_loss: see `load`.
      meshes: those that divide its neurons and heads.
    """

    net: Layer
    x: jax.ShapeDtypeStruct
    told: str
    of_loss: int
    meshes: tuple[Mesh, ...]


DENSE = Mesh(1), Mesh(8), Mesh(8, 8), Mesh(128, 8)
SPLIT = Mesh(1), Mesh(8), *(Mesh(data, shard_state=True) for data in (8, 64, 1024))


def of_numbers(sizes: tuple[int, ...]) -> Network:
    """A dense network, and 2,048 examples."""
    x = jax.ShapeDtypeStruct((2048, sizes[0]), "float32")
    return Network(mlp(sizes), x, "2,048 examples", NUMBER, DENSE)


def of_text(model: int, **sizes: Any) -> Network:
    """A transformer, and 4 sequences of 1,024 tokens; `model` divides its heads."""
    net = transformer(length=1024, **sizes)
    last = Mesh(1024 // model if 1024 % model == 0 else 64, model, shard_state=True)
    x = jax.ShapeDtypeStruct((4, 1024), "int32")
    return Network(net, x, "4 sequences of 1,024 tokens", OF_LABELS, (*SPLIT, last))


gpt2 = partial(of_text, vocabulary=50257, tied=True)
NETS = {
    "4096-16384x4-4096": of_numbers((4096, *4 * (16384,), 4096)),
    "8192-65536x4-8192": of_numbers((8192, *4 * (65536,), 8192)),
    "GPT-2 small": gpt2(4, width=768, heads=12, depth=12),
    "GPT-2 XL": gpt2(5, width=1600, heads=25, depth=48),
    "transformer of 32 blocks of 4096": of_text(8, vocabulary=32000, width=4096, heads=32, depth=32),
}
HEADER = (
    *("devices", "state", "cache", "sent", "gathers", "scatters", "sums over data", "over model"),
    *("TFLOP", "FLOP / byte"),
)


def parameters(net: Layer) -> int:
    """How many numbers a network learns."""
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0))))


def run(out: Path) -> dict[str, Any]:
    """Prints the tables and writes results.json.

    Args:
      out: the folder that is written into.
    """
    results: dict[str, Any] = {"benchmark": "devices"}
    for name, (net, x, told, of_loss, meshes) in NETS.items():
        numbers, rows = parameters(net), []
        for mesh in meshes:
            of_device = load(net, x, mesh.data, mesh.model, shard_state=mesh.shard_state, of_loss=of_loss)
            sent = of_device.sent(mesh.data, mesh.model)
            rows.append(_row(mesh, of_device, sent))
            results[f"{name}, {mesh}"] = {"parameters": numbers, **of_device._asdict(), "sent": sent._asdict()}
        heading = f"{name}: {numbers:,} parameters, Adam, float32, {told} for each along data"
        print(f"\n{screen.fill(heading)}\n")
        print(screen.table(HEADER, rows))
    note = "Of a device and a step, in GB; sent are all-gathers, reduce-scatters, and all-reduces over data and model."
    print(f"\n{screen.fill(note)}")
    report.write_results(out, results)
    return results


def _row(mesh: Mesh, of_device: Load, sent: Sent) -> tuple[str, ...]:
    total = sum(sent)
    parts = (f"{bytes_ / 1e9:.2f}" if bytes_ else "-" for bytes_ in (total, *sent))
    return (
        str(mesh),
        f"{of_device.state / 1e9:.3f}",
        f"{of_device.cache / 1e9:.2f}",
        *parts,
        f"{of_device.operations / 1e12:.2f}",
        f"{of_device.operations / total:,.0f}" if total else "-",
    )
