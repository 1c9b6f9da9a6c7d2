"""Balancing in a training loop of one's own: the three lines marked with an arrow are all that polytask adds.

Three targets of the diabetes data that ships with scikit-learn, one of them (bp, blood pressure) in units that make its
loss some 900 times as large. The same loop runs with the plain sum of the losses and with Nash-MTL, for 15 epochs and
for 60.

    python examples/own_loop.py
"""

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn

from polytask.balancing import Balancer, Equal, NashMTL, balanced_backward  # <- 1

data = load_diabetes()
names = ["progression", "bmi", "bp"]
inputs = data.data[:, [0, 1, 4, 5, 6, 7, 8, 9]]  # without bmi and bp, which are tasks here
targets = torch.tensor([[p, row[2], row[3]] for p, row in zip(data.target, data.data, strict=True)]).float()
targets = (targets - targets.mean(0)) / targets.std(0) * torch.tensor([1.0, 1.0, 30.0])  # bp in other units: 30 times
x, x_test, y, y_test = train_test_split(torch.tensor(inputs).float() * 20, targets, random_state=0)


def r2_after(epochs: int, balancer: Balancer) -> list[float]:
    """R2 of each task on the test rows after a training."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(32, 1) for _ in names)
    optimiser = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-3)
    for _epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            z = trunk(x[rows])
            losses = [nn.functional.mse_loss(head(z)[:, 0], y[rows, i]) for i, head in enumerate(heads)]
            balanced_backward(losses, shared=trunk, features=z, balancer=balancer)  # <- 2, was sum(losses).backward()
            optimiser.step()
    with torch.no_grad():
        z = trunk(x_test)
        errors = [nn.functional.mse_loss(head(z)[:, 0], y_test[:, i]) for i, head in enumerate(heads)]
    return [1 - (error / y_test[:, i].var()).item() for i, error in enumerate(errors)]


print("R2 on test rows".ljust(30) + "   ".join(f"{name:>11}" for name in names))
for epochs in (15, 60):
    for name, balancer in (("plain sum", Equal()), ("nash_mtl", NashMTL())):  # <- 3
        found = r2_after(epochs, balancer)
        print(f"{epochs} epochs, {name}".ljust(30) + "   ".join(f"{value:11.3f}" for value in found))
