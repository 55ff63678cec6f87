"""The pages on consumed states, several devices, and models from elsewhere print what is written, and it is so."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from page_programs import PAGES, assert_as_written, programs_of, run

from jaxnet.experiment.commands import train
from jaxnet.experiment.console.errors import BadInput

pytestmark = pytest.mark.usefixtures("optax_promotion", "any_rank")


def test_a_consumed_state_is_refused_as_the_page_says(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("a-consumed-state.md", capsys, units=2)


def test_the_program_of_several_devices_gives_the_numbers_of_one(capsys):
    run("several-devices.md", capsys, units=1)


def test_the_flag_on_the_page_makes_eight_devices():
    (flag, devices) = re.search(
        r"^XLA_FLAGS=(\S+=(\d+)) python", (PAGES / "several-devices.md").read_text(), re.M
    ).groups()
    asked = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.device_count())"],
        env={**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == f"{devices}\n"


@pytest.mark.usefixtures("without_figures")
def test_the_commands_for_several_devices_run_and_a_mesh_too_large_is_told_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (PAGES / "several-devices.md").read_text()
    over_both, in_parts = re.findall(r"^JAX_NUM_CPU_DEVICES=8 jaxnet train (.*)$", page, re.MULTILINE)
    for command in (over_both, in_parts):
        train.main([*shlex.split(command), "--no-compilation-cache"])
    assert capsys.readouterr().out.count("result     test accuracy") == 2
    refused, line = re.search(r"^\$ JAX_NUM_CPU_DEVICES=8 jaxnet train (.*)\n(.*)$", page, re.MULTILINE).groups()
    with pytest.raises(BadInput) as error:
        train.main([*shlex.split(refused), "--no-compilation-cache"])
    assert f"error: {error.value}" == line


def flax_like(rng):
    """Weights as flax lays them out, and the network's outputs by NumPy and jax.lax alone."""
    shapes = {
        "Conv_0": {"kernel": (3, 3, 1, 4), "bias": (4,)},
        "Dense_0": {"kernel": (64, 16), "bias": (16,)},
        "LayerNorm_0": {"scale": (16,), "bias": (16,)},
        "Dense_1": {"kernel": (16, 10), "bias": (10,)},
    }
    return {
        name: {leaf: jnp.asarray(rng.standard_normal(shape), jnp.float32) for leaf, shape in leaves.items()}
        for name, leaves in shapes.items()
    }


def test_weights_laid_out_as_flax_has_them_give_the_outputs_of_plain_jax(capsys):
    names = run("move-from-flax-and-equinox.md", capsys, blocks=slice(0, 1))
    weights, x = flax_like(np.random.default_rng(0)), names["x"]
    conv, first, norm, last = (weights[name] for name in ("Conv_0", "Dense_0", "LayerNorm_0", "Dense_1"))
    a = jax.lax.conv_general_dilated(x, conv["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    a = jax.nn.relu(a + conv["bias"]).reshape(5, 4, 2, 4, 2, 4).max((2, 4)).reshape(5, -1)
    a = a @ first["kernel"] + first["bias"]
    a = (a - a.mean(1, keepdims=True)) / jnp.sqrt(a.var(1, keepdims=True) + 1e-6) * norm["scale"] + norm["bias"]
    expected = jax.nn.gelu(a) @ last["kernel"] + last["bias"]
    names["params"] = names["from_flax"](weights)
    np.testing.assert_allclose(names["net"](names["params"], x), expected, rtol=1e-4, atol=1e-4)
    run("move-from-flax-and-equinox.md", capsys, names=names, blocks=slice(3, 4))


@pytest.mark.parametrize(("package", "block"), [("flax", 1), ("equinox", 2)])
def test_a_model_moved_over_has_its_outputs(package, block, capsys):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    names = {}
    for k in (0, block):
        program, written = programs_of("move-from-flax-and-equinox.md")[k]
        exec(program, names)
    assert_as_written(capsys.readouterr().out, written, 0)
