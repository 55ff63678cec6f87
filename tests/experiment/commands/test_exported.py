"""What is exported, loaded again by programs that know nothing of this library."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from reference import ACTIVATIONS, softmax
from safetensors import safe_open

from jaxnet.experiment.commands.export import PLATFORMS, ExportConfig, export, function
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.data.scaling import BOUND, Scaling
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import model_file

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")

BARE = """
import sys
import jax, numpy as np
from jax import export
for file, inputs, dtype in zip(*[iter(sys.argv[1:])] * 3):
    jax.config.update("jax_enable_x64", dtype == "float64")
    exported = export.deserialize(open(file, "rb").read())
    x = np.load(inputs).astype(dtype)
    for rows in (1, len(x)):
        np.save(f"{inputs}.{rows}.npy", exported.call(x[:rows]))
    print(*exported.platforms)
assert not any(name.startswith("jaxnet") for name in sys.modules)
"""
PROBLEMS = {
    "several classes": {"data": "iris"},
    "two classes": {"data": "moons", "activation": "tanh", "loss": "sigmoid_focal_loss"},
    "probabilities from a sigmoid": {"data": "moons", "loss": "binary_cross_entropy", "scale": "none"},
    "values": {"data": "diabetes", "activation": "leaky_relu", "scale": "range", "loss": "huber_loss"},
    "counts": {"data": "linnerud", "loss": "poisson_nll_loss", "scale": "none", "learning_rate": 1e-4},
    "several values, in float64": {"data": "linnerud", "dtype": "float64", "activation": "softplus"},
}
# float32 rounds at 6e-8; scaling, two layers and a softmax, in another order.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(problem) -> a run's folder, which is made once."""
    made = {}

    def of(problem):
        if problem not in made:
            made[problem] = tmp_path_factory.mktemp("runs") / "run"
            options = {"epochs": 3, "hidden": (8, 5), "init": "glorot", **PROBLEMS[problem]}
            run(TrainConfig(**{"out": str(made[problem]), **options}))
        return made[problem]

    return of


def trained(problem, folders):
    """A run's folder, its model, raw features, and its own predictions for them."""
    out = folders(problem)
    loaded = model_file.load(out)
    rng = np.random.default_rng(0)
    factor = np.where(loaded.scaling.factor > 0, loaded.scaling.factor, 1.0)
    x = loaded.scaling.shift + rng.normal(size=(20, len(loaded.features))) / factor
    # Some beyond the bounds, on both sides.
    x[:2] += np.array([[-2], [2]]) * BOUND / factor
    return out, loaded, x, loaded.predict(loaded.scaling(x))


def close(actual, expected, loaded):
    dtype = loaded.params[0].W.dtype.name
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE[dtype] * np.abs(expected).max())


def test_a_bare_process_that_knows_jax_alone_gives_the_same_predictions(folders, tmp_path, capsys):
    given, expected = [], {}
    for number, problem in enumerate(PROBLEMS):
        out, loaded, x, predictions = trained(problem, folders)
        file, inputs = export(ExportConfig(str(out))), tmp_path / f"{number}.npy"
        np.save(inputs, x)
        dtype = loaded.params[0].W.dtype.name
        given += [str(file), str(inputs), dtype]
        expected[inputs] = loaded, predictions
        assert f"with x (m, {x.shape[1]}) {dtype}" in capsys.readouterr().out
    command = [sys.executable, "-c", BARE, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert [tuple(line.split()) for line in done.stdout.splitlines()] == [PLATFORMS] * len(PROBLEMS)
    for inputs, (loaded, predictions) in expected.items():
        for rows in (1, 20):
            close(np.load(f"{inputs}.{rows}.npy"), predictions[:rows], loaded)


@pytest.mark.parametrize("to", ["safetensors", "npz"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_arrays_and_their_description_are_enough_for_numpy(to, problem, folders):
    out, loaded, x, expected = trained(problem, folders)
    file = export(ExportConfig(str(out), to=to))
    if to == "npz":
        with np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(str(arrays["description"]))
    else:
        with safe_open(file, "numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 no dictionary
            about = json.loads(opened.metadata()["jaxnet"])
    a = np.clip((x - arrays["features_shift"]) * arrays["features_factor"], *arrays["features_bounds"])
    layers = len(about["sizes"]) - 1
    for number in range(1, layers + 1):
        z = a @ arrays[f"W{number}"].T.astype(float) + arrays[f"b{number}"]
        a = ACTIVATIONS[about["activation" if number < layers else "output_activation"]](z)
    if about["classes"] and "softmax" in about["loss"]:
        a = softmax(a)
    elif about["classes"]:
        p = a if about["loss"] == "binary_cross_entropy" else ACTIVATIONS["sigmoid"](a)
        a = np.concatenate([1 - p, p], axis=1)
    else:
        a = np.exp(a) if about["loss"] == "poisson_nll_loss" else a
        a = a * arrays["targets_scale"] + arrays["targets_mean"]
    close(a, expected, loaded)
    assert len(about["features"]) == x.shape[1]


def test_features_far_from_zero_lose_no_digits(tmp_path):
    """A time in seconds, say: its mean is large beside its spread."""
    run(TrainConfig(data="iris", out=str(tmp_path / "run"), epochs=1, hidden=(8,), init="glorot"))
    far = Scaling(np.full(4, 1e6 + 0.3), np.full(4, 0.1), np.array([-BOUND, BOUND]))
    loaded = model_file.load(tmp_path / "run")._replace(scaling=far)
    x = np.float32(1e6) + np.arange(-20, 20, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    close(function(loaded)(jnp.asarray(x)), loaded.predict(far(x.astype(float))), loaded)


def test_a_scale_beyond_the_parameters_type_is_named(tmp_path):
    out = tmp_path / "run"
    run(TrainConfig(data="diabetes", out=str(out), epochs=1, hidden=(4,)))
    trained = model_file.load(out)
    far = trained._replace(problem=trained.problem._replace(mean=np.array([1e40])))
    with pytest.raises(BadInput) as error:
        function(far)
    assert str(error.value) == ("--to stablehlo: the data's scale is beyond float32; use --to npz, or train in float64")


def test_misuse_is_named(tmp_path):
    with pytest.raises(BadInput) as error:
        export(ExportConfig(str(tmp_path / "none")))
    assert str(error.value) == f"{tmp_path}/none: no such folder; expected the folder of a finished run"


def test_an_existing_file_is_kept_and_a_missing_package_named(tmp_path, monkeypatch):
    out = tmp_path / "run"
    run(TrainConfig(data="iris", out=str(out), epochs=1, hidden=()))
    file = export(ExportConfig(str(out), to="npz"))
    with pytest.raises(BadInput) as error:
        export(ExportConfig(str(out), to="npz"))
    assert str(error.value) == f"--out {file}: exists already; choose another name, or replace it with --overwrite"
    export(ExportConfig(str(out), to="npz", overwrite=True))
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput) as error:
        export(ExportConfig(str(out), to="npz", out=str(tmp_path / "folder"), overwrite=True))
    assert str(error.value) == f"--out {tmp_path}/folder: is a folder; expected the name of a file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "run"]
    with monkeypatch.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(Failure) as failure:
            export(ExportConfig(str(out)))
    assert str(failure.value) == (
        "--to stablehlo: the package flatbuffers is not installed; pip install -e '.[export]' brings it"
    )
    with pytest.raises(BadInput, match=r"/no/file: there is no folder .*/no; make it, or choose another$"):
        export(ExportConfig(str(out), out=str(tmp_path / "no" / "file")))
