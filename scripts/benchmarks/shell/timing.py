"""Commands timed from the prompt to their end, in turn."""

import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jaxnet
from benchmarks import report
from benchmarks.contest.process import environment
from benchmarks.report import Spread
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.errors import Failure

HERE = Path(__file__).parent
SCRIPT = Path(jaxnet.__file__).parents[1] / "scripts" / "train.py"
IMPORTS = "import jax, optax, chex"
WARM = "train.py, warm cache"


class Command(NamedTuple):
    """What is timed.

    Attributes:
      arguments: of Python.
      needs: a package without which it is left out.
      cache: from a folder of its own, empty for this run, to where compiled programs are kept; None keeps none.
    """

    arguments: tuple[str, ...]
    needs: str | None = None
    cache: Callable[[Path], Path] | None = None


def commands(warm: Path) -> dict[str, Command]:
    """Those of the table, by name; the warm cache is kept in that folder."""
    train = (str(SCRIPT),)
    return {
        WARM: Command(train, cache=lambda _: warm),
        "train.py, empty cache": Command(train, cache=lambda own: own / "compiled"),
        "train.py, no cache": Command((*train, "--no-compilation-cache")),
        "scikit-learn": Command((str(HERE / "by_sklearn.py"),), "sklearn"),
        "torch": Command((str(HERE / "by_torch.py"),), "torch"),
        IMPORTS: Command(("-c", IMPORTS)),
        f"{IMPORTS}, jaxnet": Command(("-c", f"{IMPORTS}, jaxnet")),
    }


def run(out: Path, seeds: int = 5) -> dict[str, Any]:
    """Times every command in turn, after one round that fills the caches, prints a table and writes results.json.

    Args:
      out: the folder that is written into.
      seeds: rounds.
    """
    with tempfile.TemporaryDirectory() as warm:
        found = {name: c for name, c in commands(Path(warm)).items() if _is_here(c)}
        absent = [name for name in commands(Path(warm)) if name not in found]
        seconds: dict[str, list[float]] = {name: [] for name in found}
        said = dict.fromkeys(found, "")
        for _ in range(seeds + 1):
            for name, command in found.items():
                taken, said[name] = _time(name, command)
                seconds[name].append(taken)
    spreads = {name: Spread.of(values[1:]) for name, values in seconds.items()}
    results = {"benchmark": "shell", **report.environment(), "rounds": seeds, "seconds": spreads, "said": said}
    report.write_results(out, results | {"absent": absent})
    print(_table(spreads, said, absent))
    return results


def _is_here(command):
    return command.needs is None or importlib.util.find_spec(command.needs) is not None


def _time(name, command):
    """Seconds, and the accuracy that was printed."""
    variables = environment()
    # What the other benchmark's workers are not to use is what this one measures.
    del variables["JAX_ENABLE_COMPILATION_CACHE"]
    with tempfile.TemporaryDirectory() as own:
        if command.cache is not None:
            variables["JAX_COMPILATION_CACHE_DIR"] = str(command.cache(Path(own)))
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command.arguments], cwd=own, env=variables, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        raise Failure(f"{name}: ended with status {done.returncode}: {last}")
    accuracy = re.search(r"test accuracy ([\d.]+)%", done.stdout)
    return seconds, accuracy.group(1) if accuracy else ""


def _table(spreads, said, absent):
    ours = spreads[WARM].median
    header = ("command", "seconds", "times train.py, warm", "test accuracy, %")
    rows = [(name, spread.text(".2f"), f"{spread.median / ours:.2f}", said[name]) for name, spread in spreads.items()]
    extra = spreads[f"{IMPORTS}, jaxnet"].median - spreads[IMPORTS].median
    notes = [
        "Medians [least-most] over the rounds, each a process from its start to its end.",
        f"train.py also splits off, evaluates, draws and saves; import jaxnet takes {extra:.2f} s beyond {IMPORTS}.",
    ]
    notes += [f"{name} not installed: pip install -e '.[bench]'" for name in absent]
    return "\n".join((screen.table(header, rows), *map(screen.fill, notes)))
