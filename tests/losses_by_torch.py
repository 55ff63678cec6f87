"""What PyTorch's own losses give, in float64: `python tests/losses_by_torch.py` writes it down, and needs torch."""

import json
from pathlib import Path

import torch
from torch.nn import functional

KEPT = Path(__file__).with_suffix(".json")
LABELS = [[0, 3, -1], [2, 2, 1]]
CLASS_WEIGHTS = [0.5, 1.0, 2.0, 0.0]


def cross_entropy(z, y, **options):
    """For each position, PyTorch having the classes second."""
    return functional.cross_entropy(z.movedim(-1, 1), y, reduction="none", **options)


def mean_cross_entropy(z, y, **options):
    """PyTorch's mean over a batch's positions that count, of each example by itself."""
    return torch.stack([functional.cross_entropy(*one, **options) for one in zip(z, y, strict=True)])


def sigmoid_focal_loss(z, y, alpha, gamma):
    """As torchvision.ops.sigmoid_focal_loss writes it."""
    p = torch.sigmoid(z)
    ce_loss = functional.binary_cross_entropy_with_logits(z, y, reduction="none")
    p_t = p * y + (1 - p) * (1 - y)
    loss = ce_loss * ((1 - p_t) ** gamma)
    alpha_t = alpha * y + (1 - alpha) * (1 - y)
    return alpha_t * loss


def results(function, z, y, **options):
    """Each example's loss, and its derivative."""
    z = z.requires_grad_()
    losses = function(z, y, **options).reshape(len(z), -1).sum(1)
    (dz,) = torch.autograd.grad(losses.sum(), z)
    return {"z": z.tolist(), "y": y.tolist(), "losses": losses.tolist(), "dz": dz.tolist()}


def everything():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    labels, weight = torch.tensor(LABELS), torch.tensor(CLASS_WEIGHTS)
    z, y = 2 * torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    summed = {"ignore_index": -1, "label_smoothing": 0.2, "weight": weight}
    return {
        "cross_entropy, summed": results(cross_entropy, z, labels, **summed),
        "cross_entropy, mean": results(mean_cross_entropy, z, labels, ignore_index=-1, label_smoothing=0.2),
        "huber_loss": results(functional.huber_loss, z, y, reduction="none", delta=0.7),
        "poisson_nll_loss": results(functional.poisson_nll_loss, z, y.abs().round(), reduction="none"),
        "sigmoid_focal_loss": results(sigmoid_focal_loss, z, torch.sigmoid(y), alpha=0.25, gamma=1.5),
    }


if __name__ == "__main__":
    KEPT.write_text(json.dumps(everything()) + "\n")
