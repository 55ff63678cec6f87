"""A trained network with all that is needed to use it: scaling, names, architecture; saved as one .npz file."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import numpy as np

from jaxnet import activations, initializers
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.mapped import quietly
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.scaling import Scaling
from jaxnet.experiment.options.parse import require_types
from jaxnet.experiment.options.train_config import LossName, TrainConfig
from jaxnet.layer import Layer
from jaxnet.networks import mlp, suited_to

FILE = "model.npz"
LAYERS = {name: getattr(activations, name) for name in ("relu", "tanh", "sigmoid", "softplus", "identity")}
LAYERS["leaky_relu"] = activations.leaky_relu()


class Origin(NamedTuple):
    """What a network was trained on, so that its parts are known again.

    Attributes:
      data: the data's SHA-256, see `fingerprint.fingerprint`.
      streamed: whether that is of some rows only.
      seed: which rows were the training, the validation and the test part.
    """

    data: str
    streamed: bool
    seed: int


class Model(NamedTuple):
    """A network and its parameters between raw features and predictions.

    Attributes:
      sizes, activation: as `mlp` takes them.
      params: trained parameters.
      scaling: of the features.
      problem: what its outputs mean.
      features: the columns that it expects, in order.
      origin: what it was trained on.
    """

    sizes: tuple[int, ...]
    activation: str
    params: Any
    scaling: Scaling
    problem: Problem
    features: tuple[str, ...]
    origin: Origin

    def predict(self, x: np.ndarray) -> np.ndarray:
        """From scaled features (m, features) to probabilities (m, classes) or values (m, targets)."""
        net = network(self.sizes, self.activation, self.problem.output_activation)
        dtype = np.dtype(jax.tree.leaves(self.params)[0].dtype)
        with jax.enable_x64(dtype == np.float64):
            return self.problem.predict(jax.jit(net.apply)(self.params, x.astype(dtype)))


def network(sizes: tuple[int, ...], activation: str, output_activation: str, init: str = "auto") -> Layer:
    """The network that the options name."""
    weight_init = {
        "auto": None,
        "zeros": initializers.zeros,
        "small-normal": initializers.small_normal,
        "he": initializers.he,
        "glorot": initializers.glorot,
    }[init]
    return mlp(sizes, LAYERS[activation], output_activation=LAYERS[output_activation], weight_init=weight_init)


def inits_of(activation: str, hidden: int, output_activation: str, init: str) -> list[str]:
    """How each layer's weights start, by name, for so many hidden layers."""
    if init != "auto":
        return [init] * (hidden + 1)
    names = {initializers.he: "he", initializers.glorot: "glorot"}
    return [names[suited_to(LAYERS[follower])] for follower in [activation] * hidden + [output_activation]]


def sizes_of(config: TrainConfig, features: int, problem: Problem) -> tuple[int, ...]:
    """The number of inputs, of each hidden layer's neurons, and of outputs."""
    return (features, *config.hidden, problem.outputs)


def content(model: Model) -> bytes:
    """What the file of a model holds."""
    description = {
        "sizes": model.sizes,
        "activation": model.activation,
        "features": model.features,
        "origin": model.origin._asdict(),
        "problem": {
            name: value for name, value in model.problem._asdict().items() if not isinstance(value, np.ndarray)
        },
    }
    arrays: dict[str, Any] = {
        **{f"features_{name}": array for name, array in model.scaling._asdict().items()},
        "targets_mean": model.problem.mean,
        "targets_scale": model.problem.scale,
    }
    leaves, _ = jax.tree_util.tree_flatten_with_path(model.params)
    arrays |= {_name(path): np.asarray(leaf) for path, leaf in leaves}
    file = io.BytesIO()
    np.savez(file, description=np.array(json.dumps(description)), **arrays)
    return file.getvalue()


def load(folder: Path) -> Model:
    """Reads the model of a run's folder, or of a checkpoint's.

    Raises:
      BadInput: when there is none, or it is damaged or of another version.
    """
    if not folder.exists():
        raise BadInput(f"{folder}: no such folder; expected the folder of a finished run")
    path = folder / FILE
    if not path.is_file():
        raise BadInput(f"{folder}: holds no trained model ({FILE}); expected the folder of a finished run")
    try:
        with quietly(), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return _assemble(archive)
    except Exception:  # a damaged archive can raise nearly anything
        what = "is damaged, or of another version of jaxnet"
        raise BadInput(f"{path}: {what}; train again, or restore it from a copy") from None


def _assemble(arrays):
    description = json.loads(str(arrays["description"]))
    # JSON makes lists of tuples.
    texts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in description["problem"].items()
    }
    require_types(Problem, texts)
    problem = Problem(**texts, mean=arrays["targets_mean"], scale=arrays["targets_scale"])
    require_types(Origin, description["origin"])
    origin = Origin(**description["origin"])
    sizes, features = tuple(description["sizes"]), tuple(description["features"])
    if not all(isinstance(name, str) for name in (*features, *problem.targets)) or not problem.targets:
        raise ValueError("names that are none")
    if problem.loss not in get_args(LossName) or not all(type(size) is int for size in sizes):
        raise ValueError("another network")
    net = network(sizes, description["activation"], problem.output_activation)
    blank = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree_util.tree_map_with_path(lambda path, leaf: _checked(arrays[_name(path)], leaf), blank)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
    if (len(features), problem.outputs) != (sizes[0], sizes[-1]) or len(dtypes) > 1:
        raise ValueError("parts that do not fit")
    shift, factor = (_checked(arrays[f"features_{name}"], features) for name in ("shift", "factor"))
    scaling = Scaling(shift, factor, _bounds(arrays["features_bounds"]))
    for part in () if problem.classes else (problem.mean, problem.scale):
        _checked(part, problem.targets)
    return Model(sizes, description["activation"], params, scaling, problem, features, origin)


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


def _name(path):
    return "params" + jax.tree_util.keystr(path)
