"""A second network for `--model`, written as a file of the room would be: options, builder, registration."""

import dataclasses
import json
from typing import Literal

import numpy as np
import pytest
from jax import export as jax_export

import jaxnet as jn
from jaxnet.experiment.commands import train
from jaxnet.experiment.commands.export import ExportConfig, export
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.networks.architecture import ARCHITECTURES, Architecture, register
from jaxnet.experiment.networks.choices import ACTIVATIONS
from jaxnet.experiment.networks.mlp import MlpOptions
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.resumed import restored
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import folder, model_file

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")


@dataclasses.dataclass(frozen=True)
class BlocksOptions:
    """The options of residual blocks."""

    times: int = 1
    """How many."""
    activation: Literal["relu", "leaky_relu", "tanh", "sigmoid", "softplus", "identity"] = "relu"
    """In each block."""

    def __post_init__(self):
        if self.times < 1:
            raise BadInput(f"--times: expected an integer of at least 1, got {self.times}")


def build(options, shape, outputs, output_activation):
    (inputs,) = shape
    block = jn.residual(jn.chain(jn.dense(inputs, inputs), ACTIVATIONS[options.activation]))
    return jn.chain(*[block] * options.times, jn.dense(inputs, outputs), ACTIVATIONS[output_activation])


def described(options, shape, outputs):
    return f"{options.times} blocks of {shape[0]}"


BLOCKS = Architecture("blocks", BlocksOptions, build, described)


# As the list of networks makes it of a further base.
@dataclasses.dataclass(frozen=True)
class Config(TrainConfig, BlocksOptions):
    """Options with those of a second network beside mlp's."""

    model: Literal["mlp", "blocks"] = "mlp"


@pytest.fixture
def registered(monkeypatch):
    """The second network's, for one test."""
    monkeypatch.setitem(ARCHITECTURES, "blocks", BLOCKS)
    monkeypatch.setattr("jaxnet.experiment.options.resumed.TrainConfig", Config)


def test_it_is_trained_gone_on_with_saved_loaded_and_exported(registered, tmp_path, capsys):
    out = tmp_path / "run"
    train.run(parse(Config, f"--data iris --model blocks --times 2 --epochs 2 --out {out}".split()))
    assert "network    2 blocks of 4, output identity; 55 parameters\n" in capsys.readouterr().out
    stored = json.loads((out / "config.json").read_text())
    assert (stored["model"], stored["times"], stored["hidden"]) == ("blocks", 2, [256])
    assert "init" not in stored["resolved"]
    train.run(dataclasses.replace(folder.read_options(out, restored), resume=str(out), out=None, epochs=3))

    loaded = model_file.load(out)
    assert loaded.network == Config(model="blocks", times=2).network((4,), 3, "identity")
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = loaded.predict(loaded.scaling(x.astype(float)))
    exported = jax_export.deserialize(bytearray(export(ExportConfig(str(out))).read_bytes()))
    np.testing.assert_allclose(exported.call(x), expected, atol=1e-6)
    with np.load(export(ExportConfig(str(out), to="npz"))) as arrays:
        about = json.loads(str(arrays["description"]))
        np.testing.assert_array_equal(arrays["params[2].W"], loaded.params[2].W)
    told = {"model": "blocks", "times": 2, "activation": "relu", "shape": [4], "outputs": 3}
    assert {name: about[name] for name in told} == told


def test_it_is_split_over_a_mesh(registered, tmp_path):
    train.run(Config(data="iris", model="blocks", times=2, epochs=1, out=str(tmp_path / "run"), mesh="model=2"))
    with pytest.raises(BadInput) as error:
        train.run(Config(data="iris", model="blocks", epochs=1, out=str(tmp_path / "other"), mesh="model=7"))
    assert str(error.value) == (
        "--mesh model=7: divides the outputs of no layer of the network 1 blocks of 4, output identity"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--times 2", "--times: is an option of --model blocks, not of mlp; leave it out"),
        ("--model blocks --hidden 8", "--hidden: is an option of --model cnn or mlp, not of blocks; leave it out"),
        ("--model blocks --times 0", "--times: expected an integer of at least 1, got 0"),
    ],
)
def test_an_option_of_another_network_is_refused_and_its_own_are_checked(line, message, registered):
    with pytest.raises(BadInput) as error:
        parse(Config, line.split())
    assert str(error.value) == message


def test_an_option_that_both_have_is_for_either(registered):
    for name, of_one in (("mlp", MlpOptions(activation="tanh")), ("blocks", BlocksOptions(activation="tanh"))):
        assert parse(Config, ["--model", name, "--activation", "tanh"]).own == of_one


def test_a_model_of_a_network_that_is_not_known_is_named(registered, tmp_path, monkeypatch):
    train.run(Config(data="iris", model="blocks", epochs=1, out=str(tmp_path / "run")))
    monkeypatch.delitem(ARCHITECTURES, "blocks")
    monkeypatch.setattr("jaxnet.experiment.options.resumed.TrainConfig", TrainConfig)
    with pytest.raises(BadInput) as error:
        model_file.load(tmp_path / "run")
    path = tmp_path / "run" / "model.npz"
    known = "cnn, gru, lstm, mlp, resnet, transformer"
    assert str(error.value) == f"{path}: holds a network 'blocks', and this version of jaxnet knows {known}"
    # Nor is the run gone on with.
    with pytest.raises(BadInput, match=r"config\.json is damaged, or of another version of jaxnet$"):
        folder.read_options(tmp_path / "run", restored)


def test_a_run_from_before_the_second_network_goes_on(registered, tmp_path):
    config = TrainConfig(data="iris", hidden=(4,))
    stored = dataclasses.asdict(config)
    for lacking in ((), ("model",)):
        folder.write_json(tmp_path / folder.CONFIG, {name: stored[name] for name in stored if name not in lacking})
        assert dataclasses.asdict(folder.read_options(tmp_path, restored)) == {**stored, "times": 1}
    # Of the network's own options none may be missing.
    folder.write_json(tmp_path / folder.CONFIG, {name: stored[name] for name in stored if name != "init"})
    with pytest.raises(BadInput, match=r"config\.json is damaged, or of another version of jaxnet$"):
        folder.read_options(tmp_path, restored)


def test_an_option_of_the_same_name_has_to_be_the_same(registered):
    @dataclasses.dataclass(frozen=True)
    class Wide:
        hidden: tuple[int, ...] = (1024,)

    with pytest.raises(ValueError) as error:
        register(BLOCKS._replace(name="wide", options=Wide))
    assert str(error.value) == (
        "wide: expected the option 'hidden' to have the type and the default that cnn gives it, or another name"
    )
    assert "wide" not in ARCHITECTURES
