"""Whole runs with files of parts, groups, weights and labels: what they write, how they go on, what is made of them."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnet as jn
from jaxnet.experiment.commands.export import ExportConfig, export
from jaxnet.experiment.commands.predict import PredictConfig, predict
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training.objective import make_value_and_grad
from jaxnet.experiment.training.recipe import recipe_of

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")

HEADER = ["a", "b", "colour", "w", "who", "kind", "p", "q"]


def rows(count, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, count)).round(3)
    colour, w = rng.integers(0, 3, count), rng.integers(0, 3, count)
    kind = np.select([a > 0.8, a + b > 0], ["c", "b"], "a")
    p, q = (a > 0).astype(int), np.where(b > 0, "yes", "no")
    # No two files have rows of one of them.
    who = 1000 * seed + np.arange(count) // 4
    return list(zip(a, b, np.array(["red", "green", "blue"])[colour], w, who, kind, p, q, strict=True))


def write(path, content, header=HEADER):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *content])
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    where = tmp_path_factory.mktemp("files")
    return {name: write(where / f"{name}.csv", rows(count, count)) for name, count in (("train", 80), ("test", 30))}


def options(tmp_path, **changes):
    own = {"out": str(tmp_path / "run"), "hidden": (4,), "dtype": "float64", "scale": "none", "epochs": 2}
    return TrainConfig(**own | changes)


def losses_of(tmp_path, **changes):
    run(options(tmp_path, **changes))
    return [json.loads(line)["train_loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("clip", [None, 0.3])
def test_a_row_that_weighs_two_is_as_two_rows_also_where_classes_are_balanced(files, tmp_path, clip):
    """In one batch, of which the mean is taken; no part is drawn, and nothing is scaled. Lengths are cut unweighted."""
    counts = [0 if k % 5 == 0 else 1 + k % 2 for k in range(40)]
    content = [(*row[:3], count, *row[4:]) for row, count in zip(rows(40, 0), counts, strict=True)]
    one = write(tmp_path / "one.csv", content)
    several = write(tmp_path / "several.csv", [row for row in content for _ in range(row[3])])
    common = {"target": ("kind",), "batch_size": 99, "optimizer": "sgd", "class_weights": "balanced"}
    common |= {"validation": files["test"], "test": files["test"], "clip_examples": clip}
    others = ("colour", "who", "p", "q")
    weighted = losses_of(tmp_path / "1", data=one, weights="w", drop=others, **common)
    plain = losses_of(tmp_path / "2", data=several, drop=(*others, "w"), **common)
    # A few dozen roundings at 1.1e-16.
    np.testing.assert_allclose(weighted, plain, rtol=1e-12)


def test_weights_beside_clipped_examples_stay_those_of_the_loss_in_every_batch(x64):
    """(1/m) sum_i w_i min(1, C / |g_i|) g_i, in a batch whose largest weight is not 1 and that is filled up."""
    config = TrainConfig(clip_examples=0.5, class_weights="balanced", dtype="float64")
    net, loss, keys = jn.mlp((3, 4, 2), jn.tanh), jn.losses.half_squared_error, jax.random.split(jax.random.key(0), 3)
    params, x, y = net.init(keys[0]), jax.random.normal(keys[1], (4, 3)), jax.random.normal(keys[2], (4, 2))
    weights = np.array([0.5, 3.0, 1.0, 0.0]) / 3
    by_example = jax.vmap(jax.grad(lambda p, x, y: loss.forward(net.apply(p, x[None]), y[None])[0]), (None, 0, 0))
    grads = by_example(params, x, y)
    lengths = np.sqrt(sum((np.asarray(leaf) ** 2).reshape(4, -1).sum(1) for leaf in jax.tree.leaves(grads)))
    assert (lengths > 0.5).any()
    shares = weights * np.minimum(1, 0.5 / lengths)
    expected = jax.tree.map(lambda leaf: np.tensordot(shares, leaf, 1), grads)
    made = make_value_and_grad(recipe_of(config), net, params, jax.ShapeDtypeStruct((4, 3), x.dtype), 4, keys[0])
    _, ours = made(net, loss)(params, x, y, jax.numpy.asarray(weights))
    # Lengths are a little too long rather than too short, by a few dozen roundings at 2.2e-16.
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15), ours, expected)


@pytest.fixture(scope="module")
def weighted(files, tmp_path_factory):
    """A run in which all of it comes together, in an odd batch size, on a mesh, with its layers looked at."""
    where = tmp_path_factory.mktemp("weighted")
    config = options(
        where, data=files["train"], target=("kind",), drop=("p", "q"), weights="w", group="who", test=files["test"],
        class_weights="balanced", batch_size=7, epochs=3, scale="standard", diagnostics=True, checkpoint_every="1epoch",
    )  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):
        return config, run(config)


def metrics_of(out):
    lines = [json.loads(line) for line in Path(out, "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_a_weighted_run_goes_on_to_the_last_bit_and_on_a_mesh_it_is_the_same(weighted, tmp_path):
    config, result = weighted
    whole = metrics_of(config.out)
    short = replace(config, out=str(tmp_path / "short"), epochs=1)
    run(short)
    again = run(replace(config, out=short.out, resume=short.out, epochs=3))
    assert metrics_of(tmp_path / "short") == whole
    assert {name: result[name] for name in result if name != "seconds"} == {
        name: again[name] for name in again if name != "seconds"
    }
    over = run(replace(config, out=str(tmp_path / "mesh"), mesh="data=2,model=2", diagnostics=False))
    # Sums in another order, through a few dozen steps.
    np.testing.assert_allclose(over["test_loss"], result["test_loss"], rtol=1e-9)


def test_a_run_does_not_go_on_with_another_test_file(weighted, tmp_path):
    config, _ = weighted
    other = write(tmp_path / "t.csv", rows(29, 1))
    with pytest.raises(BadInput, match=r"was trained on other data than --data .*train.csv holds now$"):
        run(replace(config, resume=config.out, epochs=9, test=other))


def predictions(capsys, out, source, **more):
    predict(PredictConfig(str(out), source, **more))
    told = capsys.readouterr()
    return list(csv.reader(io.StringIO(told.out))), told.err.splitlines()[-1]


def test_predict_knows_the_parts_again_and_counts_as_the_run_did(weighted, files, capsys):
    config, result = weighted
    lines, told = predictions(capsys, config.out, files["test"])
    assert told == f"predicted  30 examples: accuracy {100 * result['test_accuracy']:.2f}%"
    assert lines[0] == ["kind", "P(a)", "P(b)", "P(c)"]
    _, told = predictions(capsys, config.out, files["train"], part="validation")
    assert told.startswith("predicted  8 examples of the validation part: accuracy ")
    last = metrics_of(config.out)[-1]["validation_accuracy"]
    assert told.endswith(f"{100 * last:.2f}%")
    with pytest.raises(BadInput) as error:
        predictions(capsys, config.out, files["train"], part="test")
    assert str(error.value) == (
        f"--part test: that part of {config.out} was a file of its own, given as --test; give --data with that file, "
        "and leave --part out"
    )


def test_a_file_with_columns_that_were_no_features_is_predicted_for(files, tmp_path, capsys):
    """Those that --features left out, too."""
    config = options(tmp_path, data=files["train"], target=("kind",), features=("b", "a"), epochs=1)
    run(config)
    capsys.readouterr()
    assert len(predictions(capsys, config.out, files["train"])[0]) == 81
    assert jn.load(config.out).features == ("b", "a")


def test_several_labels_are_learnt_predicted_and_exported(files, tmp_path, capsys):
    config = options(
        tmp_path, data=files["train"], target=("p", "q"), drop=("kind", "who", "w"), epochs=60, learning_rate=0.05,
        test_fraction=0.5,
    )  # fmt: skip
    result = run(config)
    assert result["test_accuracy"] > 0.8
    assert result["targets"].keys() == {"p", "q"}
    capsys.readouterr()
    (header, *lines), told = predictions(capsys, config.out, files["test"])
    assert header == ["p", "q", "P(p)", "P(q)"]
    assert told.startswith("predicted  30 examples: accuracy ")
    assert "% (all labels of an example: " in told
    loaded = jn.load(config.out)
    raw = dict(zip(HEADER, zip(*rows(30, 30), strict=True), strict=True))
    probabilities = loaded.predict_proba(raw)
    np.testing.assert_allclose(probabilities, np.array(lines, float)[:, 2:], atol=1e-8)
    np.testing.assert_array_equal(loaded.predict(raw), np.array(lines, float)[:, :2])
    assert (loaded.classes, loaded.targets) == ((), ("p", "q"))
    # An export takes what the columns have become; here nothing is scaled.
    encoded = loaded.scaled(raw)
    exported = export(ExportConfig(config.out, out=str(tmp_path / "m.stablehlo")))
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            jax.export.deserialize(exported.read_bytes()).call(encoded), probabilities, atol=1e-9
        )
    arrays = export(ExportConfig(config.out, to="npz", out=str(tmp_path / "a.npz")))
    np.testing.assert_array_equal(jn.load(arrays).predict_proba(raw), probabilities)
    numbers = run(options(tmp_path / "n", data=files["train"], target=("w", "p"), drop=("kind", "who"), epochs=1))
    assert "test_rmse" in numbers
