"""The cache of compiled programs, as processes of the script use it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "train.py"


def train(tmp_path, *options, cache):
    arguments = [sys.executable, str(SCRIPT), "--data", "iris", "--epochs", "1", *options]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def programs(cache):
    return sorted(path for path in cache.rglob("*-cache") if path.is_file())


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME names the cache folder on Linux")
def test_programs_are_kept_found_again_and_a_damaged_one_is_compiled_anew(tmp_path):
    cache = tmp_path / "cache"
    first = train(tmp_path, cache=cache)
    assert (first.returncode, first.stderr) == (0, "")
    kept = programs(cache)
    assert any("jit_epoch" in path.name for path in kept)
    assert all((cache / "jaxnet" / "compiled") in path.parents for path in kept)
    for path in kept:
        path.write_bytes(path.read_bytes()[:50])
    again = train(tmp_path, cache=cache)
    assert (again.returncode, again.stderr) == (0, "")
    assert programs(cache) == kept


def test_without_the_cache_nothing_is_written(tmp_path):
    done = train(tmp_path, "--no-compilation-cache", cache=tmp_path / "cache")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "cache" / "jaxnet").exists()


def test_a_cache_folder_that_cannot_be_made_does_no_harm(tmp_path):
    (tmp_path / "file").write_text("")
    done = train(tmp_path, cache=tmp_path / "file")
    assert (done.returncode, done.stderr) == (0, "")
