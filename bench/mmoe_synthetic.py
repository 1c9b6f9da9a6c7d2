"""MMoE against hard sharing as two regressions become less related.

The generator of the MMoE paper: two targets whose weight vectors have cosine p, bent by sines. Both networks have about
the same number of parameters and the same training; the table shows the mean squared error on held-out rows, in units
of the targets' variance, over several data sets and starts. The paper's figure: hard sharing loses more as p falls.

    python bench/mmoe_synthetic.py [--seeds 3] [--epochs 20] [--rows 5000] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch
from torch import Tensor

from polytask.data.generators import mmoe_synthetic
from polytask.models.building import build_model
from polytask.models.inputs import InputShape
from polytask.models.spec import ModelSpec

N_INPUTS, BATCH, RATE = 100, 128, 2e-3
TASKS = ("y0", "y1")


def rows_of(p: float, n_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    made = mmoe_synthetic(p, n_rows, n_inputs=N_INPUTS, n_sines=4, seed=seed)
    x = made.frame[list(made.inputs)].to_numpy(np.float32, copy=True)
    y = made.frame[list(made.targets)].to_numpy(np.float32, copy=True)
    return torch.from_numpy(x), torch.from_numpy((y - y.mean(0)) / y.std(0))


def spec(sharing: str) -> ModelSpec:
    """The paper's sizes: 8 experts of 16 units, towers of 8; hard sharing's layer has as many parameters."""
    options = {"mmoe": {"n_experts": 8, "ratio": 0.0, "expert_widths": ()}, "hard": {}}[sharing]
    width = {"mmoe": 16, "hard": 126}[sharing]
    return ModelSpec(
        {"main": InputShape.of(torch.zeros(1, N_INPUTS))},
        dict.fromkeys(TASKS, 1),
        sharing=sharing,
        encoder_options={"widths": (width,)},
        sharing_options=options,
        head_hidden=(8,),
    )


def test_error(sharing: str, x: Tensor, y: Tensor, seed: int, epochs: int) -> float:
    torch.manual_seed(seed)
    model = build_model(spec(sharing))
    n_train = round(0.8 * len(x))
    adam = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    for _ in range(epochs):
        for chunk in torch.randperm(n_train).split(BATCH):
            out = torch.cat(tuple(model(x[chunk]).values()), 1)
            adam.zero_grad()
            (out - y[chunk]).square().mean(0).sum().backward()
            adam.step()
        schedule.step()
    with torch.no_grad():
        out = torch.cat(tuple(model.eval()(x[n_train:]).values()), 1)
        return (out - y[n_train:]).square().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = {name: sum(p.numel() for p in build_model(spec(name)).parameters()) for name in ("hard", "mmoe")}
    print(f"Parameters: {', '.join(f'{name} {size:,}' for name, size in sizes.items())}")
    print("   p     hard     mmoe   hard - mmoe   mmoe better in")
    lost: dict[str, list[float]] = {"hard": [], "mmoe": []}
    for p in (1.0, 0.9, 0.5, 0.0):
        pairs = []
        for seed in range(arguments.seeds):
            x, y = rows_of(p, arguments.rows, seed)
            pairs.append([test_error(name, x, y, seed, arguments.epochs) for name in ("hard", "mmoe")])
        hard, mmoe = (statistics.mean(pair[i] for pair in pairs) for i in range(2))
        lost["hard"].append(hard)
        lost["mmoe"].append(mmoe)
        better = sum(pair[1] < pair[0] for pair in pairs)
        print(f"{p:4.1f}   {hard:6.4f}   {mmoe:6.4f}   {hard - mmoe:+11.4f}   {better} of {len(pairs)}")
    print(
        "Lost from p = 1 to p = 0: "
        + ", ".join(f"{name} {values[-1] - values[0]:+.4f}" for name, values in lost.items())
    )


if __name__ == "__main__":
    main()
