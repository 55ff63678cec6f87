"""The options of all networks, side by side, as the command line has them. A new network is a file, and a base here."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from jaxnet.experiment.networks.architecture import ARCHITECTURES, architecture_of, own_options
from jaxnet.experiment.networks.cnn import CnnOptions
from jaxnet.experiment.networks.gru import GruOptions
from jaxnet.experiment.networks.lstm import LstmOptions
from jaxnet.experiment.networks.mlp import MlpOptions
from jaxnet.experiment.networks.network import Network
from jaxnet.experiment.networks.resnet import ResnetOptions
from jaxnet.experiment.networks.transformer import TransformerOptions

if TYPE_CHECKING:
    ModelName: TypeAlias = str
else:
    # Those that the imports above have registered.
    ModelName = Literal[tuple(ARCHITECTURES)]


@dataclasses.dataclass(frozen=True)
class ModelOption:
    """Which network it is."""

    model: ModelName = "mlp"
    """Which network; options of another one are refused."""


@dataclasses.dataclass(frozen=True)
class NetworkOptions(TransformerOptions, LstmOptions, GruOptions, ResnetOptions, CnnOptions, MlpOptions, ModelOption):
    """Which network it is, and the options of all of them."""

    def __post_init__(self) -> None:
        _ = self.own

    @property
    def own(self) -> Any:
        """The options of the network that is chosen.

        Raises:
          BadInput: when an option of another one was given, or they cannot be.
        """
        return own_options(self)

    def network(self, shape: tuple[int, ...], outputs: int, output_activation: str) -> Network:
        """The network that is chosen, for data whose examples have this shape; see `Network`."""
        takes = architecture_of(self.model).takes
        return Network(self.model, self.own, takes(shape), outputs, output_activation)


def suited(arguments: Sequence[str]) -> dict[str, Any]:
    """The options that suit the network that a command line names better than the general defaults.

    They have to be known before the line is read: what it gives then takes their place, and is judged beside them.
    """
    words = [word for text in arguments for word in text.split("=", 1)]
    given = dict(itertools.pairwise(words))
    model = given.get("--model", "")
    suits = dict(ARCHITECTURES[model].suits) if model in ARCHITECTURES else {}
    if given.get("--optimizer") == "kfac":
        # It chooses its own rate for each step.
        suits.pop("schedule", None)
    return {"model": model, **suits} if suits else {}


def may_lack(options: Mapping[str, Any]) -> set[str]:
    """Which options a run's config.json need not have: those of other networks, which may have come after it.

    Args:
      options: by name. They lack `model` themselves where mlp was the only network.
    """
    own = architecture_of(options.get("model", "mlp")).option_names
    others = {name for architecture in ARCHITECTURES.values() for name in architecture.option_names}
    return {"model"} | others - set(own)
