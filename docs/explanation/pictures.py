"""The pictures of the page on balancing: python docs/explanation/pictures.py writes them to docs/images.

Directions and paths come from the balancers themselves, on two tasks and two parameters.
"""

import sys
from pathlib import Path

import matplotlib
import torch

from polytask.balancing import Balancer, Signals, registry

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "polytask"
from matplotlib import pyplot as plt  # noqa: E402 after the choice of a backend without a screen

IMAGES = Path(__file__).parents[1] / "images"
METHODS = ("equal", "mgda", "pcgrad", "nash_mtl", "upgrad")
QUIET, LOUD = torch.tensor([1.0, 0.3]), torch.tensor([-1.5, 2.0])
"""Two gradients that conflict; the second is more than twice as long."""
CENTRES = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
SCALES = torch.tensor([1.0, 20.0], dtype=torch.float64)
START = torch.tensor([-0.6, 2.0], dtype=torch.float64)


def balancer(name: str) -> Balancer:
    made = registry.create(name)
    made.bind(["quiet", "loud"])
    return made


def direction(made: Balancer, losses: torch.Tensor, rows: torch.Tensor, step: int = 0) -> torch.Tensor:
    """The combined gradient: the tasks' gradients by the balancer's weights."""
    return made(Signals.of(losses, rows=rows, step=step)) @ rows.double()


def path(name: str, steps: int = 300, length: float = 0.01) -> torch.Tensor:
    """Where steps of one length lead from the start; so that only directions are compared."""
    made, place, places = balancer(name), START.clone(), [START]
    for step in range(steps):
        away = place - CENTRES
        losses, rows = SCALES * away.square().sum(1), 2 * SCALES[:, None] * away
        turn = direction(made, losses, rows, step)
        size = turn.norm()
        if size < 1e-6:
            break
        place = place - length * turn / size
        places.append(place)
    return torch.stack(places)


def style(number: int, name: str) -> dict[str, object]:
    """The last one is dashed, because with two tasks it lies on another."""
    return {"color": f"C{number}", "lw": 2.5, "label": name, "ls": "--" if name == METHODS[-1] else "-"}


def draw_directions(folder: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 4))
    rows = torch.stack([QUIET, LOUD])
    for name, row in (("gradient of the quiet task", QUIET), ("gradient of the loud task", LOUD)):
        axes.annotate("", row.tolist(), (0, 0), arrowprops={"arrowstyle": "->", "color": "black", "lw": 2})
        axes.annotate(name, row.tolist(), xytext=(4, 4), textcoords="offset points")
    for number, name in enumerate(METHODS):
        found = direction(balancer(name), torch.ones(2), rows)
        found = found / found.norm() * 1.6  # of one length: what differs is where they point
        axes.plot([0, found[0].item()], [0, found[1].item()], **style(number, name))
    axes.set(xlim=(-2, 3), ylim=(-0.4, 2.4), aspect="equal", xlabel="first parameter", ylabel="second parameter")
    axes.legend(loc="upper right")
    save(figure, folder / "balancing-directions.svg")


def draw_paths(folder: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot(*CENTRES.T.tolist(), color="lightgrey", lw=6, label="Pareto front")
    for number, name in enumerate(METHODS):
        axes.plot(*path(name).T.tolist(), **style(number, name))
    for words, centre in zip(("best for the quiet task", "best for the loud task"), CENTRES.tolist(), strict=True):
        axes.annotate(words, centre, xytext=(0, -22), textcoords="offset points", ha="center")
    axes.plot(*START.tolist(), "ko")
    axes.annotate("start", START.tolist(), xytext=(6, 0), textcoords="offset points")
    axes.set(xlim=(-1.8, 1.8), ylim=(-0.5, 2.3), xlabel="first parameter", ylabel="second parameter")
    axes.legend(loc="upper right")
    save(figure, folder / "balancing-paths.svg")


def save(figure: plt.Figure, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    print(file.name)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    draw_directions(folder)
    draw_paths(folder)
    for name in METHODS:
        rows = torch.stack([QUIET, LOUD])
        inner = rows.double() @ direction(balancer(name), torch.ones(2), rows)
        print(f"{name:<10} along the quiet gradient {inner[0]:+.2f}, along the loud one {inner[1]:+.2f}", end="; ")
        print("ends at", [round(x, 2) for x in path(name)[-1].tolist()])
