"""What PyTorch makes of a table of vectors, its padding, and a table tied to the head: written beside this file.

Run it where torch is: python tests/layers/torch_embedding.py
"""

import json
from pathlib import Path

import torch

VALUES = Path(__file__).with_suffix(".json")
IDS = torch.tensor([[1, 2, 1], [0, 4, 2], [3, 3, 3], [4, 0, 2]])
LABELS = torch.tensor([[2, 1, 0], [4, 3, 1], [3, 2, 0], [0, 0, 4]])


def numbers(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_embedding(padding):
    layer = torch.nn.Embedding(5, 3, padding_idx=padding, dtype=torch.float64)
    W, dz = numbers(5, 3, seed=0), numbers(4, 3, 3, seed=1)
    with torch.no_grad():
        layer.weight.copy_(W)
        if padding is not None:
            layer.weight[padding] = 0
    z = layer(IDS)
    z.backward(dz)
    return {"W": layer.weight, "x": IDS, "dz": dz, "z": z, "dW": layer.weight.grad}


def of_unembedding():
    layer = torch.nn.Linear(3, 5, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(numbers(5, 3, seed=2))
    x, dz = numbers(4, 3, seed=3).requires_grad_(), numbers(4, 5, seed=4)
    z = layer(x)
    z.backward(dz)
    return {"W": layer.weight, "x": x, "dz": dz, "z": z, "dW": layer.weight.grad, "dx": x.grad}


def of_tied():
    table, body = torch.nn.Embedding(5, 3, dtype=torch.float64), torch.nn.Linear(3, 3, dtype=torch.float64)
    head = torch.nn.Linear(3, 5, bias=False, dtype=torch.float64)
    head.weight = table.weight
    with torch.no_grad():
        table.weight.copy_(numbers(5, 3, seed=5))
        body.weight.copy_(numbers(3, 3, seed=6))
        body.bias.copy_(numbers(3, seed=7))
    z = head(torch.tanh(body(table(IDS))))
    loss = torch.nn.functional.cross_entropy(z.reshape(-1, 5), LABELS.reshape(-1), reduction="sum") / len(IDS)
    loss.backward()
    weights = {"W": table.weight, "body_W": body.weight, "body_b": body.bias, "x": IDS, "y": LABELS}
    return weights | {
        "z": z,
        "loss": loss,
        "dW": table.weight.grad,
        "dbody_W": body.weight.grad,
        "dbody_b": body.bias.grad,
    }


if __name__ == "__main__":
    values = {
        "embedding": of_embedding(None),
        "padded": of_embedding(2),
        "unembedding": of_unembedding(),
        "tied": of_tied(),
    }
    lists = {case: {name: value.tolist() for name, value in of.items()} for case, of in values.items()}
    VALUES.write_text(json.dumps(lists) + "\n", "utf-8")
