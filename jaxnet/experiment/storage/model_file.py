"""A model as one .npz file: its arrays, and all else in JSON."""

import dataclasses
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from jaxnet.experiment.console.errors import BadInput, require_folder
from jaxnet.experiment.data.columns import KINDS
from jaxnet.experiment.data.encoding import Treatment
from jaxnet.experiment.data.image_form import ImageForm
from jaxnet.experiment.data.mapped import quietly
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.scaling import Scaling
from jaxnet.experiment.data.tokens import BYTE_TOKENS, Tokens
from jaxnet.experiment.networks.architecture import ARCHITECTURES, by_place
from jaxnet.experiment.networks.network import Network
from jaxnet.experiment.options.parse import require_types
from jaxnet.experiment.options.train_config import LossName
from jaxnet.experiment.storage.model import Model, Origin

FILE = "model.npz"


def content(model: Model) -> bytes:
    """What the file of a model holds."""
    arrays: dict[str, Any] = {
        **{f"features_{name}": array for name, array in model.scaling._asdict().items()},
        "targets_mean": model.problem.mean,
        "targets_scale": model.problem.scale,
    }
    arrays |= {name: np.asarray(leaf) for name, leaf in by_place(model.params).items()}
    file = io.BytesIO()
    np.savez(file, description=np.array(json.dumps(described(model))), **arrays)
    return file.getvalue()


def described(model: Model) -> dict[str, Any]:
    """All but the arrays, for JSON."""
    # A text's tokens are named by the classes.
    of_text = {} if model.tokens is None else {"text": {"kind": model.tokens.kind, "file": model.tokens.tokenizer}}
    of_images = {} if model.form is None else {"images": model.form._asdict()}
    return {
        "model": model.network.model,
        "options": dataclasses.asdict(model.network.options),
        "shape": model.network.shape,
        "features": model.features,
        "origin": model.origin._asdict(),
        "columns": [treatment._asdict() for treatment in model.treatments],
        "left_out": model.left_out,
        **of_text,
        **of_images,
        "problem": {
            name: value for name, value in model.problem._asdict().items() if not isinstance(value, np.ndarray)
        },
    }


def load(folder: Path) -> Model:
    """Reads the model of a run's folder, or of a checkpoint's.

    Raises:
      BadInput: when there is none, or it is damaged or of another version.
    """
    require_folder(folder, "the folder of a finished run")
    path = folder / FILE
    if not path.is_file():
        raise BadInput(f"{folder}: holds no trained model ({FILE}); expected the folder of a finished run")
    return load_file(path)


def load_file(path: Path) -> Model:
    """Reads a model's .npz file, also one that was exported.

    Raises:
      BadInput: when it is damaged or of another version.
    """
    try:
        with quietly(), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return assemble(json.loads(str(archive["description"])), archive)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; expected a trained model") from None
    except _UnknownNetwork as unknown:
        known = ", ".join(ARCHITECTURES)
        raise BadInput(
            f"{path}: holds a network {unknown.args[0]!r}, and this version of jaxnet knows {known}"
        ) from None
    except Exception:  # a damaged archive can raise nearly anything
        what = "is damaged, or of another version of jaxnet"
        raise BadInput(f"{path}: {what}; train again, or restore it from a copy") from None


class _UnknownNetwork(Exception):  # noqa: N818 a model of another version
    """A model that is whole, of an architecture that is not there."""


def assemble(description: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Model:
    """The model of what `described` says and its arrays, with the names of a run's own file or of an export."""
    problem = _problem(description["problem"], arrays)
    require_types(Origin, description["origin"])
    origin, features = Origin(**description["origin"]), tuple(description["features"])
    if not all(isinstance(name, str) for name in (*features, *problem.targets)) or not problem.targets:
        raise ValueError("names that are none")
    network = _network(description, problem)
    net = network.net
    blank = jax.eval_shape(net.init, jax.random.key(0))
    leaves, structure = jax.tree.flatten(blank)
    # Where each array's name is among the leaves: exports have names of the architecture's own.
    numbered = jax.tree.unflatten(structure, range(len(leaves)))
    named = by_place(numbered) if by_place(numbered).keys() <= arrays.keys() else network.architecture.arrays(numbered)
    held = [_checked(arrays[name], leaves[k]) for name, k in sorted(named.items(), key=lambda item: item[1])]
    params = jax.tree.unflatten(structure, held)
    if len({leaf.dtype for leaf in held}) != 1:
        raise ValueError("arrays that do not fit each other")
    outputs = jax.eval_shape(net.apply, blank, network.inputs(1, np.float32)).shape
    expected = (1, *network.shape, problem.outputs) if problem.positions else (1, problem.outputs)
    if len(features) != (0 if problem.positions else math.prod(network.shape)) or outputs != expected:
        raise ValueError("parts that do not fit")
    if not network.architecture.ids == problem.positions == ("text" in description):
        raise ValueError("a text's network, or tokens, for something else")
    shift, factor = (_checked(arrays[f"features_{name}"], features) for name in ("shift", "factor"))
    scaling = Scaling(shift, factor, _bounds(arrays["features_bounds"]))
    treatments = tuple(_treatment(told) for told in description["columns"])
    if treatments and tuple(name for treatment in treatments for name in treatment.features) != features:
        raise ValueError("columns that are not those of the features")
    tokens = _tokens(description["text"], problem) if problem.positions else None
    form = _form(description["images"], features) if "images" in description else None
    return Model(
        network, params, scaling, problem, features, origin, treatments, tuple(description["left_out"]), tokens, form
    )


def _form(told, features):
    of_types = _tuples(told)
    require_types(ImageForm, of_types)
    form = ImageForm(**of_types)
    sizes = (*(form.size or ()), form.channels or 0)
    if len(sizes) != 3 or min(sizes) < 1 or math.prod(sizes) != len(features):
        raise ValueError("images of another size")
    return form


def _tokens(told, problem):
    tokens = Tokens(told["kind"], problem.classes, told["file"])
    require_types(Tokens, tokens._asdict())
    single = all(len(text) == 1 for text in tokens.texts) and list(tokens.texts) == sorted(set(tokens.texts))
    fitting = {"characters": single, "bytes": tokens == BYTE_TOKENS, "tokenizer": bool(tokens.tokenizer)}
    if not fitting[tokens.kind]:
        raise ValueError("tokens of no kind")
    return tokens


def _treatment(told):
    of_types = _tuples(told)
    require_types(Treatment, of_types)
    treatment = Treatment(**of_types)
    if treatment.kind not in KINDS or not math.isfinite(treatment.fill):
        raise ValueError("another kind of column")
    return treatment


def _problem(told, arrays):
    texts: dict[str, Any] = _tuples(told)
    require_types(Problem, texts)
    # Exports have them for numbers alone.
    mean, scale = (arrays[name] if name in arrays else np.zeros(0) for name in ("targets_mean", "targets_scale"))
    problem = Problem(**texts, mean=mean, scale=scale)
    if problem.loss not in get_args(LossName):
        raise ValueError("another loss")
    for part in (problem.mean, problem.scale) if problem.regression else ():
        _checked(part, problem.targets)
    return problem


def _network(told, problem):
    name, options, shape = told["model"], _tuples(told["options"]), tuple(told["shape"])
    if name not in ARCHITECTURES:
        raise _UnknownNetwork(str(name))
    architecture = ARCHITECTURES[name]
    require_types(architecture.options, options)
    # All of them: a version without one may have done otherwise what is its default now.
    if options.keys() != set(architecture.option_names) or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError("another network")
    return Network(name, architecture.options(**options), shape, problem.outputs, problem.output_activation)


def _tuples(told):
    """JSON makes lists of tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}


def _checked(array, blank):
    shape = blank.shape if hasattr(blank, "shape") else (len(blank),)
    if array.shape != shape or array.dtype not in (np.float32, np.float64) or not np.isfinite(array).all():
        raise ValueError("another shape, or values that are not finite")
    return array


def _bounds(bounds):
    # Without scaling they are infinite.
    if bounds.shape != (2,) or bounds.dtype != np.float64 or not bounds[0] < bounds[1]:
        raise ValueError("no bounds")
    return bounds
