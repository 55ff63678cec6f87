"""What a file of this room says of its network, and the register in which `--model` looks it up."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from jaxnet.experiment.console.errors import BadInput, did_you_mean, option
from jaxnet.layer import Layer


def by_place(params: Any) -> dict[str, Any]:
    """A network's arrays, named by their places among the parameters: 'params[0].W'."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {f"params{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}


def as_they_are(options: Any, shape: tuple[int, ...], outputs: int) -> dict[str, Any]:
    """The options by name, with the sizes that the data decide."""
    return {**dataclasses.asdict(options), "shape": shape, "outputs": outputs}


class Architecture(NamedTuple):
    """A network but for its sizes at both ends, which the data decide.

    Attributes:
      name: what `--model` calls it.
      options: a frozen dataclass. Its fields are options of `scripts/train.py`, with defaults; their docstrings are the
        help; its `__post_init__` refuses what cannot be, as BadInput.
      build: `(options, shape, outputs, output_activation) -> Layer`, for examples of a shape that it takes and so many
        outputs; the last argument is the name of what follows the last layer.
      described: `(options, shape, outputs) -> str`, the network in a few words, as '64-256-10, relu'.
      takes: `shape -> shape`, how it takes an example of the data: as it is, or its numbers in another shape.
      settled: `(options, output_activation) -> dict`, what those options came to that leave something open.
      arrays: `params -> dict`, the parameters as exports name them.
      about: `(options, shape, outputs) -> dict`, what exports say beside the arrays, so that they can be used.
      suits: options that the shell gives a run of it where they are not given, in place of their general defaults.
      ids: whether it takes the ids of a text's tokens, and tells at each of them what follows.
    """

    name: str
    options: type
    build: Callable[[Any, tuple[int, ...], int, str], Layer]
    described: Callable[[Any, tuple[int, ...], int], str]
    takes: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda shape: shape
    settled: Callable[[Any, str], dict[str, Any]] = lambda options, output_activation: {}
    arrays: Callable[[Any], dict[str, Any]] = by_place
    about: Callable[[Any, tuple[int, ...], int], dict[str, Any]] = as_they_are
    suits: Mapping[str, Any] = MappingProxyType({})
    ids: bool = False

    @property
    def option_names(self) -> tuple[str, ...]:
        """Of the fields of its options."""
        return tuple(field.name for field in dataclasses.fields(self.options))


ARCHITECTURES: dict[str, Architecture] = {}


def register(architecture: Architecture) -> Architecture:
    """Makes an architecture known to `--model`.

    Raises:
      ValueError: when an option of its has the name of another one's, and is not the same.
    """
    fields = {field.name: (field.type, field.default) for field in dataclasses.fields(architecture.options)}
    for other in ARCHITECTURES.values():
        for field in dataclasses.fields(other.options):
            if field.name in fields and fields[field.name] != (field.type, field.default):
                raise ValueError(
                    f"{architecture.name}: expected the option {field.name!r} to have the type and the default that "
                    f"{other.name} gives it, or another name"
                )
    ARCHITECTURES[architecture.name] = architecture
    return architecture


def architecture_of(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
      BadInput: when there is none.
    """
    if name not in ARCHITECTURES:
        near = did_you_mean(name, ARCHITECTURES)
        raise BadInput(f"--model: expected one of {', '.join(ARCHITECTURES)}; got {name!r}{near}")
    return ARCHITECTURES[name]


def own_options(config: Any) -> Any:
    """The options of the network that a config's `model` names, out of those of all, which stand there side by side.

    Raises:
      BadInput: when there is no such network, when an option of another one was given, or what the options refuse.
    """
    chosen = architecture_of(config.model)
    for field in dataclasses.fields(config):
        owners = [name for name, other in ARCHITECTURES.items() if field.name in other.option_names]
        if owners and chosen.name not in owners and getattr(config, field.name) != field.default:
            told = f"is an option of --model {' or '.join(owners)}, not of {chosen.name}; leave it out"
            raise BadInput(f"{option(field.name)}: {told}")
    return chosen.options(**{name: getattr(config, name) for name in chosen.option_names})
