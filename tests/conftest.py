import gc
import os
from pathlib import Path

import hypothesis
import jax
import pytest
from jaxtyping import config as jaxtyping_config

# Several devices to shard over, on any machine; must be set before JAX starts.
jax.config.update("jax_num_cpu_devices", 8)
# A test compiles for seconds and runs for milliseconds: without LLVM's optimisations the suite takes two thirds of the
# time. XLA's own, on which operations and memory depend, stay. The scripts that tests call find the flags in their
# environment; with all optimisations the gate runs them once, from the wheel.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
# Kernels made by way of MLIR take twice as long to compile as those that XLA writes to LLVM itself; later versions of
# XLA have no others, and an unknown flag ends the process.
if jax.__version__.startswith("0.10."):
    QUICK += " --xla_cpu_use_fusion_emitters=false"
# Each of pytest-xdist's workers has the flags from the process that started it already.
if QUICK not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()
jax.devices()
# What JAX traces is full of cycles, and stays: Python's collector would look through all of it again and again.
gc.set_threshold(20_000, 20, 20)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
    told = "how many cases of bad input test_fuzz runs (%(default)s); more go on where fewer end"
    parser.addoption("--fuzz-cases", type=int, default=500, help=told)


# What these ask has nothing to do with the version of Python or JAX, or is asked there again of what is made of them:
# of two Pythons, the gate asks one.
ON_ONE_PYTHON = (
    "benchmarks",
    "claims",
    "experiment/console",
    "experiment/data",
    "experiment/estimators/test_checks.py",
    "experiment/figures",
    "experiment/networks",
    "experiment/options",
    "experiment/storage/test_durable.py",
    "experiment/storage/test_folder.py",
    "experiment/storage/test_newest.py",
    "experiment/storage/test_resumption.py",
    "experiment/training",
    "experiment/commands/test_check.py",
    "experiment/commands/test_compare.py",
    "experiment/commands/test_predict.py",
    "experiment/commands/test_progress.py",
    "experiment/commands/test_train.py",
    "experiment/devices/test_processes.py",
    "experiment/devices/test_cache.py",
    "factored",
    "test_fuzz.py",
    "test_lesson.py",
    "test_properties.py",
    "test_scripts.py",
    "testing",
)
# Of a layer by itself both are asked its derivative and costs; over devices and exported, the networks of layers are.
OF_A_LAYER = ("backward_equals_autodiff", "memory", "costs", "keep")
# Of any other test's cases both are asked the first: a version that breaks another one breaks what all are made of.
# Not of these, whose every case is what one version of XLA or JAX makes of it.
ON_BOTH = (
    "test_cost.py",
    "test_cost_of_networks.py",
    "test_export.py",
    "test_over_eight_devices_gradients_and_clipped_ones_are_those_of_one",
    "test_the_gradient_is_autodiffs_also_of_what_is_drawn",
    "test_the_gradient_is_lowered_for_cpu_cuda_and_tpu_with_any_batch_size",
)


def asked_on_one_python(item, seen):
    """Whether the gate asks one of two Pythons; seen: the tests of which a case was met before."""
    tests = Path(__file__).parent
    if any(item.path.is_relative_to(tests / path) for path in ON_ONE_PYTHON):
        return True
    if item.path.parent == tests / "layers" and not any(word in item.originalname for word in OF_A_LAYER):
        return True
    if not hasattr(item, "callspec") or {item.path.name, item.originalname} & set(ON_BOTH):
        return False
    test = item.path, item.originalname
    return test in seen or seen.add(test) is not None


def pytest_collection_modifyitems(items):
    seen = set()
    for item in items:
        if asked_on_one_python(item, seen):
            item.add_marker("on_one_python")


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory):
    """Scripts that tests call keep compiled programs, and Matplotlib its fonts, there, not in the user's folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.setdefault("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
    # A run loads Matplotlib in a thread. Python 3.11 counts how deep its parser is for all threads together, and that
    # of the annotations' checks would fail meanwhile.
    from jaxnet.experiment.figures import canvas

    canvas.get_ready()


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """Where programs that several tests need are kept: one compiles them for all, in this process and in others."""
    session = tmp_path_factory.getbasetemp()
    # Each of pytest-xdist's workers has a folder in the session's.
    kept = str((session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "compiled")
    jax.config.update("jax_compilation_cache_dir", kept)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return kept


@pytest.fixture
def key():
    return jax.random.key(2026)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def without_shape_annotations():
    """What a user sees, who does not run with the annotations checked: our own messages."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture
def optax_promotion():
    """Optax's Adam family raises a float to an integer power, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def compilations(caplog):
    """(name) -> how often the test has compiled the jitted function of that name so far.

    Asked of JAX's log: a function's own cache is part of one that all share, and is emptied where that is full.
    """
    with jax.log_compiles():
        yield lambda name: caplog.text.count(f"Compiling jit({name})")


@pytest.fixture
def without_figures(monkeypatch):
    """They take longer than a short run."""
    monkeypatch.setattr("jaxnet.experiment.commands.ending.draw", lambda *arguments: None)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the working directory and returns its name."""
    monkeypatch.chdir(tmp_path)

    def to(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return to


hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=10, database=None)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
