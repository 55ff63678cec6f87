"""What is drawn of a run on images besides: what its network looks for, and where it looks."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.data.problem import loss_of
from jaxnet.experiment.data.split import Part
from jaxnet.experiment.figures import images as figures
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.training.image_readings import feature_maps, filters, read

# Of the test part: images that are looked at, those of different classes whose saliency is shown, and those with the
# largest gradients.
LOOKED_AT, SHOWN, LARGEST = 1024, 8, 12


def draw(where: Path, finished: Model, test: Part, predicted: np.ndarray) -> None:
    """The figures of a run on images with classes.

    Args:
      where: the folder for them.
      finished: the model that is kept.
      test: the part of whose first images the figures are.
      predicted: probabilities of classes (m, classes) of the test part.
    """
    problem, net, dtype = finished.problem, finished.network.net, finished.dtype
    params = jax.tree.map(jnp.asarray, finished.params)
    x = test.x.read(slice(0, LOOKED_AT), dtype)
    y, said = test.y[:LOOKED_AT], predicted[:LOOKED_AT].argmax(axis=1)
    readings = read(net, loss_of(problem), params, x, problem.encode(y, dtype))
    classes = np.array(problem.classes)
    W = filters(net, params, finished.network.shape)
    if W is not None:
        figures.draw_filters(where / "filters.png", W)
    figures.draw_feature_maps(where / "features.png", x[0], feature_maps(net, params, x[0]), classes[y[0]])
    # The first image of each class.
    rows = np.unique(y, return_index=True)[1][:SHOWN]
    figures.draw_saliency(where / "saliency.png", x[rows], readings.saliency[rows], classes[y[rows]].tolist())
    rows = np.argsort(-readings.norms, kind="stable")[:LARGEST]
    largest = (classes[of_one[rows]].tolist() for of_one in (y, said))
    figures.draw_largest(where / "largest.png", x[rows], readings.norms[rows], *largest)
