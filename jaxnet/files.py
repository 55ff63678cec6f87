"""From a program to what lies on disk: trained networks, and parameters of one's own.

The core needs none of what reads and writes them; it is imported when it is called.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxnet.experiment.storage.loaded import Loaded


def load(path: str | os.PathLike[str]) -> "Loaded":
    """A network that `jaxnet train` trained, with all that is between raw features and predictions.

    ```python
    model = jn.load("runs/digits-1")
    model.predict(raw)        # (m,) of classes' names, or (m, targets) of values: those of `jaxnet predict`
    model.predict_proba(raw)  # (m, classes)
    model.net, model.params, model.classes, model.features, model.metrics
    ```

    Args:
      path: a run's folder (of one that is not finished, the newest checkpoint counts), a checkpoint's, or a .npz or
        .safetensors file that `jaxnet export` wrote.

    Raises:
      jaxnet.experiment.console.errors.BadInput: when there is no whole model; one line that says what to do.

    Example:
      >>> from jaxnet.experiment.commands import train
      >>> metrics = train.main(["--data", "iris", "--epochs", "1", "--out", "iris-run", "--checkpoint-every", "0"])
      device ...
      written    iris-run/
      >>> model = jn.load("iris-run")
      >>> model.classes
      ('setosa', 'versicolor', 'virginica')
    """
    from jaxnet.experiment.storage import loaded

    return loaded.load(path)


def save(path: str | os.PathLike[str], params: Any) -> None:
    """Writes a pytree of arrays into a file, by their places; never a pickle, so that reading it runs nothing.

    The file is NumPy's .npz, and is there whole or not at all. Types that NumPy lacks (bfloat16, keys) are kept too.

    Args:
      path: of the file; one that is there is replaced.
      params: parameters, an optimizer's state, a `TrainState`: any pytree of arrays.

    Raises:
      ValueError: when a leaf is no array.
      OSError: when the file cannot be written; what was there before is as it was.

    Example:
      >>> params = jn.dense(3, 4).init(key)
      >>> jn.save("params.npz", params)
    """
    from jaxnet.experiment.storage import arrays

    arrays.save(path, params)


def restore(path: str | os.PathLike[str], like: Any) -> Any:
    """Reads what `save` wrote, into the structure of `like`.

    Args:
      path: of the file.
      like: a pytree of arrays, or of their shapes (`jax.eval_shape(net.init, key)`), with the shapes and types that the
        file is to have; where its arrays lie on several devices, so do those that are read.

    Raises:
      ValueError: when the file is none of `save`, or holds other arrays; it says which.

    Example:
      >>> layer = jn.dense(3, 4)
      >>> jn.save("params.npz", layer.init(key))
      >>> params = jn.restore("params.npz", like=jax.eval_shape(layer.init, key))
      >>> bool((params.W == layer.init(key).W).all())
      True
    """
    from jaxnet.experiment.storage import arrays

    return arrays.restore(path, like)
