"""Balancing in a training loop of one's own: the three lines marked with an arrow are all that changes."""

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn

from polytask.balancing import NashMTL, balanced_backward  # <- 1

torch.manual_seed(0)
data = load_diabetes()
columns = ["progression", "bmi", "bp"]
inputs = data.data[:, [0, 1, 4, 5, 6, 7, 8, 9]]  # without bmi and bp, which are tasks here
targets = torch.tensor([[p, row[2], row[3]] for p, row in zip(data.target, data.data, strict=True)]).float()
targets = (targets - targets.mean(0)) / targets.std(0) * torch.tensor([1.0, 1.0, 30.0])  # bp in other units: 30 times
x, x_test, y, y_test = train_test_split(torch.tensor(inputs).float() * 20, targets, random_state=0)

trunk = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
heads = nn.ModuleList(nn.Linear(32, 1) for _ in columns)
optimiser = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-3)
balancer = NashMTL()  # <- 2

for _epoch in range(60):
    for rows in torch.randperm(len(x)).split(64):
        optimiser.zero_grad()
        z = trunk(x[rows])
        losses = [nn.functional.mse_loss(head(z)[:, 0], y[rows, i]) for i, head in enumerate(heads)]
        balanced_backward(
            losses, shared=trunk.parameters(), features=z, balancer=balancer
        )  # <- 3, was sum(losses).backward()
        optimiser.step()

with torch.no_grad():
    z = trunk(x_test)
    for i, (name, head) in enumerate(zip(columns, heads, strict=True)):
        error = nn.functional.mse_loss(head(z)[:, 0], y_test[:, i])
        print(f"{name:<12} R2 {1 - (error / y_test[:, i].var()).item():.3f}")
