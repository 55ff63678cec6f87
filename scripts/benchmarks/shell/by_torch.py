"""The run of `scripts/train.py` without arguments, with PyTorch: the network, optimizer, batches and epochs."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
x, x_validation, y, y_validation = train_test_split(x, y, test_size=0.125, stratify=y, random_state=0)
scaler = StandardScaler().fit(x)
x, x_validation, x_test = (
    torch.tensor(scaler.transform(part), dtype=torch.float32) for part in (x, x_validation, x_test)
)
y, y_validation, y_test = (torch.tensor(part) for part in (y, y_validation, y_test))

net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
loss = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(net.parameters(), lr=0.001, weight_decay=0.3)
for _ in range(100):
    for rows in torch.randperm(len(x)).split(32):
        optimizer.zero_grad(set_to_none=True)
        loss(net(x[rows]), y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        validation_loss = loss(net(x_validation), y_validation).item()
with torch.no_grad():
    accuracy = (net(x_test).argmax(1) == y_test).float().mean().item()
print(f"validation loss {validation_loss:.4f}, test accuracy {100 * accuracy:.2f}%")
