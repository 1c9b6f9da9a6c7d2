"""What ways of sharing and encoders cost, counted on small networks: parameters, and operations of a forward pass."""

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from polytask.models.building import build_model
from polytask.models.inputs import Field, InputShape
from polytask.models.spec import ModelSpec

ROWS, INPUTS, WIDTHS = 32, 20, (64, 64)
_TABLE = {"numeric": Field((10,)), "categorical": Field((2,), (5, 5))}
_WORDS = {"words": Field((20,), (2000,)), "pieces": Field((20, 4), (500,))}
TYPICAL = {
    **dict.fromkeys(("tabm", "tabular"), ("10 numbers and 2 categories", _TABLE)),
    "mlp": ("10 numbers", {"x": Field((10,))}),
    **dict.fromkeys(("cnn", "resnet18", "unet"), ("an image of 28 x 28", {"x": Field((1, 28, 28))})),
    **dict.fromkeys(("speech", "speech_frames"), ("half a second at 8 kHz", {"x": Field((4000,))})),
    **dict.fromkeys(("bigru", "text_cnn", "transformer", "seq2seq"), ("20 words of 2,000, with their pieces", _WORDS)),
}
"""Rows on which encoders are counted; those that read a module or a folder of the user have the size of that."""
_UNCOUNTED = ("bigru", "transformer", "seq2seq")
"""Encoders whose recurrences or fused attention the counter does not see."""


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


def size_of(encoder: str) -> str:
    """Parameters with default options and, where they are counted, operations a row, in words; empty if unknown."""
    if encoder not in TYPICAL:
        return ""
    said, fields = TYPICAL[encoder]
    model = build_model(ModelSpec({"rows": InputShape(fields)}, {"task": 1}, encoder)).eval()
    words = f"on {said}: {sum(parameter.numel() for parameter in model.parameters()):,} parameters"
    if encoder in _UNCOUNTED:
        return words
    rows = {name: torch.ones(ROWS, *field.shape, dtype=torch.int64 if field.cardinalities else torch.float32)
            for name, field in fields.items()}  # fmt: skip
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(rows["x"] if list(rows) == ["x"] else rows)
    return f"{words}, {counter.get_total_flops() / ROWS / 1e6:,.1f} million operations a row and forward pass"
