"""The two-task problem of CAGrad (figure 1) and Nash-MTL (figure 2): which points each method reaches.

Two narrow valleys for positive ``y``, in which the gradients conflict and differ in length, lead to two bowls whose Pareto
set is the segment between their lowest points.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from polytask.balancing import Signals, registry

STARTS = [(-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0)]
STEPS, RATE = 16000, 0.004


def losses(p):
    """The two losses as the papers write them, for automatic differentiation."""
    x, y = p
    valleys = (0.5 * (-x - 7) - torch.tanh(-y), 0.5 * (-x + 3) + torch.tanh(-y) + 2)
    bowls = ((-x + 7) ** 2 + 0.1 * (-y - 8) ** 2, (-x - 7) ** 2 + 0.1 * (-y - 8) ** 2)
    upper, lower = torch.tanh(0.5 * y).clamp(min=0), torch.tanh(-0.5 * y).clamp(min=0)
    return [
        upper * (valley.abs().clamp(min=5e-6).log() + 6) + lower * (bowl / 10 - 20)
        for valley, bowl in zip(valleys, bowls, strict=True)
    ]


def evaluate(x, y):
    """The same losses with their gradients by hand, a hundred times faster."""
    tanh, half = math.tanh(y), math.tanh(0.5 * y)
    slope = 0.5 * (1 - half * half)
    upper, lower = max(half, 0.0), max(-half, 0.0)
    up_slope, low_slope = (slope, 0.0) if y > 0 else (0.0, -slope)
    values, gradients = [], []
    for valley, sign, centre in ((0.5 * (-x - 7) + tanh, 1.0, 7.0), (0.5 * (-x + 3) - tanh + 2, -1.0, -7.0)):
        log = math.log(max(abs(valley), 5e-6)) + 6
        steep = 1 / valley if abs(valley) > 5e-6 else 0.0
        bowl = ((x - centre) ** 2 + 0.1 * (y + 8) ** 2) / 10 - 20
        values.append(upper * log + lower * bowl)
        gradients.append(
            (
                -0.5 * upper * steep + 0.2 * lower * (x - centre),
                up_slope * log + upper * sign * (1 - tanh * tanh) * steep + low_slope * bowl + 0.02 * lower * (y + 8),
            )
        )
    return values, np.array(gradients)


def run(name, start, steps=STEPS):
    """Adam on the method's direction, as in the papers; returns the last point."""
    balancer = registry.create(name)
    balancer.bind(["first", "second"])
    point, mean, square = np.array(start), np.zeros(2), np.zeros(2)
    index = torch.arange(2)
    for k in range(1, steps + 1):
        values, rows = evaluate(*point)
        signals = Signals(
            index, torch.tensor(values, dtype=torch.float64), torch.from_numpy(rows @ rows.T), torch.from_numpy(rows)
        )
        d = balancer(signals).numpy() @ rows
        mean, square = 0.9 * mean + 0.1 * d, 0.999 * square + 0.001 * d * d
        point = point - RATE * mean / (1 - 0.9**k) / (np.sqrt(square / (1 - 0.999**k)) + 1e-8)
        if k % 100 == 0 and is_pareto(point):
            break
    return tuple(point.tolist())


ARITHMETIC = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-FMA,-FMA_Usable,-FMA4,-FMA4_Usable",
    "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name]),
    "OPENBLAS_CORETYPE": "Nehalem",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
}
"""One arithmetic on every x86 processor: no fused multiplications in the C library, NumPy and torch.

In the valleys a step jumps from slope to slope, so that a start moved by 1e-12 arrives elsewhere on the Pareto set
(Nash-MTL from the first start: anywhere between -4.8 and -1.9). Where a method arrives can be compared with a record
only where the last bits are the same. NumPy names its optimizations differently from version to version and refuses those that a processor lacks.
"""


def arrivals(name, starts, steps=STEPS):
    """The last points from these starts, in a process with that arithmetic."""
    command = [sys.executable, "-W", "error", __file__, json.dumps([name, starts, steps])]
    done = subprocess.run(command, env={**os.environ, **ARITHMETIC}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_pareto(point):
    """Whether the point is at the Pareto set: between the bowls' lowest points, gradients opposite."""
    _, rows = evaluate(*point)
    cosine = rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1])
    return abs(point[0]) < 7.0 and abs(point[1] + 8.4) < 0.1 and cosine < -0.999


@pytest.mark.parametrize("point", [*STARTS, (1.0, 0.5), (-2.0, -1.0), (3.0, -8.0)])
def test_the_gradients_by_hand_are_those_of_the_papers_losses(point):
    p = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    expected = losses(p)
    values, rows = evaluate(*point)
    for i, loss in enumerate(expected):
        assert values[i] == pytest.approx(loss.item())
        np.testing.assert_allclose(rows[i], torch.autograd.grad(loss, p, retain_graph=True)[0].numpy(), rtol=1e-9)


@pytest.mark.slow
def test_plain_summation_stalls_in_the_valleys():
    for point in arrivals("equal", [STARTS[0], STARTS[2]]):
        assert point[1] > 0.5
        assert min(evaluate(*point)[0]) > 1.0


REACHED = {
    "mgda": [(-2.85, -8.3), (-7.0, -8.43), (2.91, -8.3)],
    "imtl_g": [(-3.36, -8.31), (-6.71, -8.35), (3.38, -8.31)],
    "aligned_mtl": [(-4.69, -8.31), (-5.57, -8.31), (3.49, -8.31)],
    "pcgrad": [(-4.56, -8.31), (-6.6, -8.37), (4.69, -8.3)],
    "upgrad": [(-4.29, -8.31), (-6.6, -8.37), (3.96, -8.31)],
    "nash_mtl": [(-3.39, -8.37), (-6.6, -8.43), (1.61, -8.36)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REACHED)
def test_methods_reach_the_pareto_set_from_every_start(name):
    points = arrivals(name, STARTS, 40000)
    for point in points:
        assert is_pareto(point), f"{name} ended at {point}"
    np.testing.assert_allclose(points, REACHED[name], atol=0.15)


@pytest.mark.slow
def test_cagrad_goes_on_to_the_lowest_average():
    """It leaves the valleys and goes along the Pareto set to where the average loss is least, between the bowls."""
    for point in arrivals("cagrad", STARTS, 60000):
        assert is_pareto(point), f"cagrad ended at {point}"
        assert abs(point[0]) < 1.0


if __name__ == "__main__":
    wanted, starts, steps = json.loads(sys.argv[1])
    print(json.dumps([run(wanted, start, steps) for start in starts]))
