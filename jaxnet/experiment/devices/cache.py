"""Compiled programs on disk, so that a run like an earlier one starts at once."""

import os
import warnings
from pathlib import Path

import jax

LARGEST = 512 * 2**20  # bytes; beyond it the programs that were not used for longest go


def use_compilation_cache() -> Path | None:
    """Has JAX keep what it compiles in the user's cache folder, and look there first.

    A folder that the environment names, JAX_COMPILATION_CACHE_DIR, is left as it is.

    Returns:
      The folder; None where there is none to be written to, and nothing is kept.
    """
    from platformdirs import user_cache_path

    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = Path(named) if named else user_cache_path("jaxnet", appauthor=False) / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", LARGEST)
    # JAX leaves out what is small or quick to compile, which here is everything.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # A damaged entry, or a full disk, costs a compilation and nothing else.
    warnings.filterwarnings("ignore", message=".*persistent compilation cache.*")
    return folder
