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


TESTS = Path(__file__).parent
# All of the suite is asked of one Python. A second one, with the newest JAX, is asked what another version may break.
# Of these every test, and of a test of many cases the first: whole networks, every kind of layer and all that is read
# of it, JAX's transformations around it, devices, optimizers, what users copy, what is promised.
WHOLE = (
    "networks/test_every_network.py",
    "test_architecture.py",
    "test_compiled.py",
    "test_composition.py",
    "test_every_kind_of_layer.py",
    "test_losses.py",
    "test_main.py",
    "test_on_one_python.py",
    "test_optax.py",
    "test_readme.py",
    "test_sharding.py",
    "test_training.py",
)
# Of these every case, since each is what one version of XLA or JAX makes of it.
EVERY_CASE = (
    "test_around_every_layer_operations_are_within_a_hundredth_and_memory_within_autodiffs",
    "test_a_step_is_lowered_for_cpu_cuda_and_tpu_with_any_batch_size",
    "test_every_function_is_that_of_the_gradients_and_matrices_formed",
    "test_operations_and_memory_are_within_their_bounds",
    "test_the_gradient_by_hand_takes_no_more_operations_and_memory_than_autodiff",
    "test_the_gradient_is_autodiffs_also_of_what_is_drawn",
    "test_the_gradient_is_lowered_for_cpu_cuda_and_tpu_with_any_batch_size",
)
# Of any other file the first test, and what compiled programs cost.
OF_COSTS = ("memory", "operations", "costs")
# Of these none: what they ask has nothing to do with the version of Python or JAX, or is asked there again of a run, of
# every kind of layer or over devices.
ON_ONE_PYTHON = (
    "benchmarks",
    "claims",
    "experiment/console",
    "experiment/data",
    "experiment/estimators/test_checks.py",
    "experiment/figures",
    "experiment/networks",
    "experiment/options",
    "experiment/storage/test_checkpoint.py",
    "experiment/storage/test_durable.py",
    "experiment/storage/test_folder.py",
    "experiment/storage/test_newest.py",
    "experiment/storage/test_resumption.py",
    "experiment/training",
    "experiment/commands/test_check.py",
    "experiment/commands/test_compare.py",
    "experiment/commands/test_parts.py",
    "experiment/commands/test_predict.py",
    "experiment/commands/test_progress.py",
    "experiment/commands/test_schedules.py",
    "experiment/commands/test_seeds.py",
    "experiment/commands/test_train.py",
    "experiment/devices/test_processes.py",
    "experiment/devices/test_cache.py",
    "factored",
    "test_by_backpack.py",
    "test_curvature_over_devices.py",
    "test_fuzz.py",
    "test_lesson.py",
    "test_lesson_pages.py",
    "test_notebooks.py",
    "test_project.py",
    "test_properties.py",
    "test_readme_in_chinese.py",
    "test_reference.py",
    "test_scripts.py",
    "test_site.py",
    "test_tied_over_devices.py",
    "test_types.py",
    "testing",
)


def asked_on_one_python(item, met):
    """Whether the gate asks one of two Pythons; met: of each file the first test, of each test the first case."""
    name = item.originalname
    first_test = met.setdefault(item.path, name) == name
    first_case = met.setdefault((item.path, name), item) is item
    if any(item.path.is_relative_to(TESTS / path) for path in ON_ONE_PYTHON):
        return True
    whole = item.path.relative_to(TESTS).as_posix() in WHOLE
    asked = first_test or whole or any(word in name for word in OF_COSTS)
    return not asked or not (first_case or name in EVERY_CASE)


def pytest_collection_modifyitems(items):
    met = {}
    for item in items:
        if asked_on_one_python(item, met):
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
    # Also what compiles at once: to keep it costs nothing, and to read it half of what compiling it does.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
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
def any_rank():
    """What a user's program runs with, where strict rank promotion would refuse."""
    with jax.numpy_rank_promotion("allow"):
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
