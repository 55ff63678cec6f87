"""What a run on examples leaves behind: the model, or each seed's, the test part's scores, and figures."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.experiment.commands import image_runs
from jaxnet.experiment.commands.result import of_seeds, scored
from jaxnet.experiment.console.errors import Failure
from jaxnet.experiment.data.split import Split
from jaxnet.experiment.devices import processes
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.figures import curves, probabilities, test_part
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import durable, folder, model_file
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.training.batches import blocks_of
from jaxnet.experiment.training.position import Epoch, Trained
from jaxnet.experiment.training.scores import make_predict_and_judge, scores
from jaxnet.experiment.training.seeds import best_of, of_seed

# Height, width and channels, as networks for images take them.
IMAGE_AXES = 3


def finish(
    out: Path,
    finished: Model,
    config: TrainConfig,
    parts: Split,
    epochs: list[Epoch],
    trained: Trained,
    layout: Layout,
) -> dict[str, Any]:
    """Writes the model and the figures, and returns the scores for result.json.

    Args:
      out: the run's folder.
      finished: the model that is kept, of several seeds that of the least validation loss.
      config: the options.
      parts: of the data.
      epochs: all of them.
      trained: the parameters that are kept, of all seeds, and the epoch after which they stood.
      layout: of the mesh.

    Raises:
      Failure: when the test part's loss is not finite; the model is written before.
    """
    problem, test = finished.problem, parts.test
    blocks = blocks_of(test, problem, str(finished.dtype), layout)
    predict_and_judge = make_predict_and_judge(finished.network.net, problem, blocks, layout)
    each = [trained.params] if config.seeds == 1 else [of_seed(trained.params, k) for k in range(config.seeds)]
    judged = [predict_and_judge(params) for params in each]
    predicted, _ = judged[best_of(trained.kept)]

    def write():
        durable.write(out / model_file.FILE, model_file.content(finished))
        if config.seeds > 1:
            (out / folder.SEEDS).mkdir(exist_ok=True)
            for seed, params in enumerate(each, start=config.seed):
                of_one = finished._replace(params=layout.fetch(params))
                durable.write(out / folder.SEEDS / f"seed-{seed}.npz", model_file.content(of_one))
        if not all(np.isfinite(loss) for _, loss in judged):
            others = "though the other parts' are"
            raise Failure(f"the test part's loss is not finite, {others}; look for extreme values in the data")
        draw(out / folder.FIGURES, config, epochs, trained, finished, parts, predicted)

    processes.by_first(write)
    told = [scored(loss, scores(problem, of_one, test.y, test.weights)) for of_one, loss in judged]
    return told[0] if config.seeds == 1 else of_seeds(told, config.seed, trained.kept)


def draw(
    where: Path,
    config: TrainConfig,
    epochs: list[Epoch],
    trained: Trained,
    finished: Model,
    parts: Split,
    predicted: np.ndarray,
) -> None:
    """The figures of a run on examples.

    Args:
      where: the folder for them.
      config, epochs, trained, finished, parts: as for `finish`.
      predicted: what the model makes of the test part.
    """
    problem, test = finished.problem, parts.test
    training = "training, labels smoothed" if config.label_smoothing else "training"
    curves.draw_curves(where / "loss.png", epochs, problem, trained.kept, training)
    if any(epoch.diagnostics for epoch in epochs):
        curves.draw_diagnostics(where / "diagnostics.png", epochs)
    if problem.regression:
        test_part.draw_predictions(where / "predictions.png", predicted, test.y, problem.targets)
        return
    probabilities.draw_roc(where / "roc.png", predicted, test.y, problem, test.weights)
    probabilities.draw_calibration(where / "calibration.png", predicted, test.y, problem, test.weights)
    if problem.labels:
        return
    test_part.draw_confusion(where / "confusion.png", predicted.argmax(axis=1), test.y, problem.classes)
    if len(finished.network.shape) == IMAGE_AXES:
        image_runs.draw(where, finished, test, predicted)
    if finished.network.shape == (2,):
        x = test.x.read(slice(None), np.float64)
        test_part.draw_boundary(where / "boundary.png", finished, x, test.y)
