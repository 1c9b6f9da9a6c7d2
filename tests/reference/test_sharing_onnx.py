"""Networks of every way of sharing as ONNX, run by another program: the same outputs for a batch of any size."""

import warnings

import numpy as np
import pytest
import torch

from polytask.models.building import build_model
from polytask.models.encoders import registry as encoders
from polytask.models.inputs import InputShape
from polytask.models.sharing import registry
from polytask.models.spec import ModelSpec

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

NAMES = [name for name in registry.names() if registry.load(name).exports]


class Ordered(torch.nn.Module):
    """The outputs as a tuple, as ONNX has no names for a dict's values."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.model(rows).values())


@pytest.mark.parametrize("name", NAMES)
def test_onnx_gives_the_same_outputs(name: str, tmp_path) -> None:
    assert "mlp" in encoders.names()
    torch.manual_seed(0)
    spec = ModelSpec(
        inputs={"main": InputShape.of(torch.zeros(1, 5))},
        n_outputs={"a": 1, "b": 1},
        encoder="mlp",
        encoder_options={"widths": (8, 8)},
        sharing=name,
    )
    model = Ordered(build_model(spec).eval())
    rows = torch.randn(6, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            model, (rows,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch", min=2)},), verbose=False
        )
    program.save(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (given,) = session.get_inputs()
    for batch in (rows, torch.randn(3, 5)):
        expected = model(batch)
        found = session.run(None, {given.name: batch.numpy()})
        for ours, theirs in zip(expected, found, strict=True):
            np.testing.assert_allclose(theirs, ours.detach().numpy(), atol=1e-5)
