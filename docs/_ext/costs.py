"""What a way of sharing costs beside hard sharing, counted on one small network: parameters, and products of a pass."""

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from polytask.models.building import build_model
from polytask.models.inputs import InputShape
from polytask.models.spec import ModelSpec

ROWS, INPUTS, WIDTHS = 32, 20, (64, 64)


@cache
def counted(sharing: str, n_tasks: int) -> tuple[int, int]:
    """Parameters, and floating-point operations of a forward pass."""
    torch.manual_seed(0)
    rows = torch.randn(ROWS, INPUTS)
    tasks = [f"t{i}" for i in range(n_tasks)]
    shape = {"rows": InputShape.of(rows)}
    spec = ModelSpec(shape, dict.fromkeys(tasks, 1), "mlp", sharing, encoder_options={"widths": WIDTHS})
    model = build_model(spec).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(rows)
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops()


def beside_hard(sharing: str) -> str:
    """In words, for 2 and for 8 tasks."""
    parts = []
    for n_tasks in (2, 8):
        found, hard = counted(sharing, n_tasks), counted("hard", n_tasks)
        numbers, products = (mine / other for mine, other in zip(found, hard, strict=True))
        parts.append(f"{n_tasks} tasks: parameters x {numbers:.1f}, arithmetic of a pass x {products:.1f}")
    return "; ".join(parts)
