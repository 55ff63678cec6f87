"""Parameters of one's own in a file: arrays by their places, and never a pickle."""

import io
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.data.mapped import quietly
from jaxnet.experiment.networks.architecture import by_place
from jaxnet.experiment.storage import durable

# Types that NumPy's format has; others, as bfloat16, are kept as bytes.
KINDS = "biufc"
DESCRIPTION = "description"


def save(path: str | os.PathLike[str], params: Any) -> None:
    """Writes a pytree of arrays; see `jaxnet.save`."""
    leaves: dict[str, Any] = {}
    types: dict[str, dict[str, Any]] = {}
    for name, leaf in by_place(params).items():
        if not _is_array(leaf):
            raise ValueError(f"save: expected a pytree of arrays, got {type(leaf).__name__} at {name}")
        key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if key else leaf)
        types[name] = {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}
        if key:
            types[name]["impl"] = str(jax.random.key_impl(leaf))
        leaves[name] = array if array.dtype.kind in KINDS else np.frombuffer(array.tobytes(), np.uint8)
    file = io.BytesIO()
    leaves[DESCRIPTION] = np.array(json.dumps(types))
    np.savez(file, **leaves)
    durable.write(Path(path).expanduser(), file.getvalue())


def restore(path: str | os.PathLike[str], like: Any) -> Any:
    """Reads what `save` wrote; see `jaxnet.restore`."""
    place = Path(path).expanduser()
    try:
        with quietly(), place.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        types = json.loads(str(arrays.pop(DESCRIPTION)))
    except OSError as error:
        raise ValueError(f"restore: {place}: cannot be read ({error.strerror})") from None
    except Exception:  # a damaged archive can raise nearly anything
        raise ValueError(f"restore: {place}: expected a whole file that jaxnet.save wrote") from None
    blanks = by_place(like)
    _require_structure(place, types.keys(), blanks.keys())
    leaves = [_restored(place, name, blank, arrays[name], types[name]) for name, blank in blanks.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _require_structure(place, there, asked):
    for names, told in ((asked - there, "which the file lacks"), (there - asked, "which only the file has")):
        if names:
            other = f"got another structure: {min(names)}, {told}"
            raise ValueError(f"restore: {place}: expected the arrays of `like`, {other}")


def _restored(place, name, blank, array, told):
    shape, dtype = tuple(told["shape"]), told["dtype"]
    if shape != blank.shape or dtype != str(blank.dtype):
        expected = f"{blank.dtype}{list(blank.shape)}"
        raise ValueError(f"restore: {place}: expected {name} to be {expected}, got {dtype}{list(shape)}")
    sharding = getattr(blank, "sharding", None)
    if jnp.issubdtype(blank.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(array, impl=told["impl"])
        return key if sharding is None else jax.device_put(key, sharding)
    whole = array if array.dtype.kind in KINDS and str(array.dtype) == dtype else array.view(blank.dtype)
    return jax.device_put(whole.reshape(shape), sharding)


def _is_array(leaf):
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))
