"""Smoothed labels: in training a share s of each label is that of all classes alike."""

from jaxnet import losses
from jaxnet.experiment.data.problem import OF_POSITIONS
from jaxnet.losses import Loss


def smoothed(loss: Loss, share: float) -> Loss:
    """The same loss of the targets (1 - s) y + s / o for o classes, and (1 - s) y + s / 2 for a yes or no.

    What it samples are labels as they are.

    Args:
      loss: of classes.
      share: s, from 0 to 1.

    Source: Szegedy et al., Rethinking the inception architecture for computer vision, 2015, section 7.
    """
    if not share:
        return loss
    # Of labels by number the targets are made while they are needed, not kept for all classes.
    if loss is losses.softmax_cross_entropy_with_integer_labels:
        return losses.cross_entropy(label_smoothing=share)._replace(sample=loss.sample)
    if loss is OF_POSITIONS:
        return losses.cross_entropy(label_smoothing=share, over_positions="mean")

    def targets(y):
        alike = y.shape[-1] if loss is losses.softmax_cross_entropy else 2
        return (1 - share) * y + share / alike

    return loss._replace(
        forward=lambda z, y: loss.forward(z, targets(y)),
        backward=lambda z, y: loss.backward(z, targets(y)),
        root_hessian=lambda z, y: loss.root_hessian(z, targets(y)),
    )


def with_plain_samples(trained: Loss, loss: Loss) -> Loss:
    """The curvature of a smoothed loss, whose Fisher matrix is that of the network's own predictions.

    Sampled labels stand for what the network predicts: they are not smoothed again.

    Args:
      trained: smoothed.
      loss: as it was.
    """
    return loss._replace(root_hessian=trained.root_hessian)
