"""A trained model for use without this library: as a compiled function, or as arrays with their names.

The function takes raw features and gives what `jaxnet predict` prints: scaling, network, and probabilities or
values in the target's units.
"""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float, Shaped

from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import BadInput, Failure, heed_interrupt
from jaxnet.experiment.console.screen import say
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.storage import durable, exports, model_file, newest
from jaxnet.experiment.storage.destination import require_destination
from jaxnet.experiment.storage.model import Model

To = Literal["stablehlo", "safetensors", "npz"]
NEEDS = {"stablehlo": "flatbuffers", "safetensors": "safetensors"}
PLATFORMS = ("cpu", "cuda", "tpu")


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Take a trained network elsewhere."""

    WORD: ClassVar = "--out"
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run; of one that is not finished, the newest checkpoint counts."""
    to: To = "stablehlo"
    """stablehlo: a function for jax.export, for any number of examples, on CPU, CUDA and TPU; safetensors or npz: the
    arrays by name, in the order of their use."""
    out: str | None = None
    """The file; by default model.stablehlo, model.safetensors or arrays.npz in the run's folder."""
    overwrite: bool = False
    """Replace an existing file."""


def main() -> None:
    """`export`, with this process's command line."""
    export(parse(ExportConfig))


def export(config: ExportConfig) -> Path:
    """Writes the file, and returns where it is.

    Raises:
      BadInput: when the run holds no model, or the file exists already or cannot be written.
      Failure: when a package is missing.
    """
    run = Path(config.run)
    place = newest.place(run)
    trained = model_file.load(place)
    needed = NEEDS.get(config.to)
    if needed is not None and not packages.is_there(needed):
        raise Failure(f"--to {config.to}: {packages.missing(needed)}")
    names = {"stablehlo": "model.stablehlo", "safetensors": "model.safetensors", "npz": "arrays.npz"}
    out = Path(config.out) if config.out is not None else run / names[config.to]
    require_destination("--out", out, overwrite=config.overwrite)
    content = {"stablehlo": stablehlo, "safetensors": safetensors, "npz": npz}[config.to](trained)
    heed_interrupt()
    try:
        durable.write(out, content)
        exports.note(run, out, place / model_file.FILE)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written ({error.strerror})") from None
    say(f"written    {out} ({len(content):,} bytes): {_use(config.to, trained)}")
    return out


def function(trained: Model) -> Callable[[Shaped[Array, "m ..."]], Float[Array, "m *t o"]]:
    """From raw features to probabilities, (m, classes or labels), or values in the targets' units, (m, targets).

    From ids (m, t) of a text to the probabilities of what follows each of them, (m, t, tokens).

    Raises:
      BadInput: when a feature or target has a scale that the parameters' dtype cannot hold.
    """
    net, dtype = trained.network.net, trained.dtype
    least, most = trained.scaling.bounds
    if trained.tokens is not None:
        params = jax.tree.map(jnp.asarray, trained.params)
        return lambda ids: trained.problem.probabilities(net.apply(params, ids))
    # Features are named in a row; an example may have another shape.
    shift, factor = (array.reshape(trained.network.shape) for array in trained.scaling[:2])
    for scaling in (shift, factor, trained.problem.mean, trained.problem.scale):
        if (np.abs(scaling) > np.finfo(dtype).max).any():
            raise BadInput(f"--to stablehlo: the data's scale is beyond {dtype}; use --to npz, or train in float64")
    # The shift in two parts, so that a feature far from 0 loses no digits: x - high is exact where x is near it.
    high = shift.astype(dtype)
    low = (shift - high).astype(dtype)
    problem = trained.problem

    def predict(x):
        scaled = ((x - high[None]) - low[None]) * factor.astype(dtype)[None]
        z = net.apply(trained.params, jnp.clip(scaled, least.astype(dtype), most.astype(dtype)))
        if not problem.regression:
            return problem.probabilities(z)
        return problem.values(z) * problem.scale.astype(dtype)[None] + problem.mean.astype(dtype)[None]

    return predict


def stablehlo(trained: Model) -> bytes:
    """`function`, lowered for all `PLATFORMS` and any number of examples: what `jax.export.deserialize` reads."""
    from jax import export as jax_export

    with jax.enable_x64(trained.dtype == np.float64):
        (m,) = jax_export.symbolic_shape("m")
        x = trained.network.inputs(m, trained.dtype)
        exported = jax_export.export(jax.jit(function(trained)), platforms=PLATFORMS)(x)
        return bytes(exported.serialize())


def safetensors(trained: Model) -> bytes:
    """The arrays by name, with what they mean as JSON in the file's metadata."""
    from safetensors.numpy import save

    return save(_arrays(trained), {"jaxnet": json.dumps(_description(trained))})


def npz(trained: Model) -> bytes:
    """The arrays by name, with what they mean as JSON in the array 'description'."""
    file = io.BytesIO()
    np.savez(file, description=np.array(json.dumps(_description(trained))), **_arrays(trained))
    return file.getvalue()


def _arrays(trained):
    """The features' scaling; the parameters, W1, b1, W2, ... for mlp; mean and scale of targets that are numbers."""
    arrays: dict[str, Any] = {f"features_{name}": array for name, array in trained.scaling._asdict().items()}
    arrays |= trained.network.architecture.arrays(trained.params)
    if trained.problem.regression:
        arrays |= {"targets_mean": trained.problem.mean, "targets_scale": trained.problem.scale}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _description(trained):
    problem = trained.problem
    return {
        **model_file.described(trained),
        **trained.network.about,
        "output_activation": problem.output_activation,
        "loss": problem.loss,
        "classes": problem.classes,
        "targets": problem.targets,
    }


def _use(to, trained):
    if to == "stablehlo":
        shape = ", ".join(map(str, ("m", *trained.network.shape)))
        x = trained.network.inputs(1, trained.dtype)
        return f"jax.export.deserialize(bytes).call(x) with x ({shape}) {x.dtype}"
    return f"{', '.join(_arrays(trained))}"
