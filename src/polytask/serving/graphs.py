"""Networks as graphs: a network with tensors in and out, its file in each format, and running such a file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from polytask.bundle import Network
from polytask.errors import MissingExtraError
from polytask.models.inputs import SINGLE, InputShape
from polytask.shapes import Inputs, Tensor

__all__ = ["FORMATS", "Graph", "as_file", "largest_difference", "quiet", "random_rows", "run"]

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
"""Endings of the graphs' files."""


class Graph(nn.Module):
    """The network with tensors in and a tuple of tensors out, as graphs have no dicts.

    Args:
        network: The network.
        source: Whose rows it reads.
        tasks: Names of the tasks, in the order of the outputs.
    """

    def __init__(self, network: Network, source: str, tasks: Sequence[str]):
        super().__init__()
        self.model, self.source, self.tasks = network.model, source, tuple(tasks)
        self.passes = network.passes(tasks)
        self.names = tuple(network.spec.inputs[source].fields)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs of each task, in their order."""
        inputs: Inputs = tensors[0] if self.names == (SINGLE,) else dict(zip(self.names, tensors, strict=True))
        outputs: dict[str, Tensor] = {}
        for together in self.passes:
            outputs |= self.model(inputs, together, self.source)
        return tuple(outputs[task] for task in self.tasks)


def as_file(graph: Graph, to: str, rows: tuple[Tensor, ...]) -> bytes:
    """The content of the graph's file.

    Args:
        graph: The network.
        to: One of :data:`FORMATS`.
        rows: Rows that the network can read; their number is not kept.

    Raises:
        MissingExtraError: If ONNX is asked for and its packages are not installed.
    """
    return _onnx(graph, rows) if to == "onnx" else _torch(graph, rows)


def _dynamic(rows: Sequence[Tensor]) -> tuple[tuple[dict[int, Any], ...]]:
    batch = torch.export.Dim("batch", min=1)
    return (tuple({0: batch} for _ in rows),)


def _torch(graph: Graph, rows: tuple[Tensor, ...]) -> bytes:
    with quiet():
        program = torch.export.export(graph, rows, dynamic_shapes=_dynamic(rows))
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx(graph: Graph, rows: tuple[Tensor, ...]) -> bytes:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError("exporting to ONNX", package, "export") from error
    with quiet():
        program = torch.onnx.export(
            graph,
            rows,
            dynamo=True,
            dynamic_shapes=_dynamic(rows),
            input_names=[name or SINGLE for name in graph.names],
            output_names=[f"output: {task}" for task in graph.tasks],
            verbose=False,
        )
        assert program is not None
        written: bytes = program.model_proto.SerializeToString()
    return written


@contextlib.contextmanager
def quiet() -> Any:
    """The exporters warn of their own insides and log them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def random_rows(shape: InputShape, n: int) -> tuple[Tensor, ...]:
    """Rows that the network can read, as the graph takes them."""
    generator = torch.Generator().manual_seed(n)
    tensors = []
    lengths = torch.randint(1, 1 << 30, (n,), generator=generator)
    for field in shape.fields.values():
        if len(field.shape) == 1 and len(field.cardinalities) == field.shape[0]:  # a code a column
            codes = [torch.randint(0, count, (n,), generator=generator) for count in field.cardinalities]
            tensors.append(torch.stack(codes, 1))
        elif field.cardinalities:  # codes of the elements of a row, with padding after its last one
            codes_of_elements = torch.randint(1, field.cardinalities[0], (n, *field.shape), generator=generator)
            ends = (lengths % field.shape[0] + 1).view(-1, *[1] * len(field.shape))
            places = torch.arange(field.shape[0]).view(-1, *[1] * (len(field.shape) - 1))
            tensors.append(codes_of_elements * (places < ends))
        else:
            tensors.append(torch.randn(n, *field.shape, generator=generator))
    return tuple(tensors)


def run(path: str | Path, rows: Sequence[Tensor]) -> list[np.ndarray]:
    """The outputs of a graph's file for rows, in the order of its tasks."""
    if Path(path).suffix == ".pt2":
        with quiet():
            program = torch.export.load(str(path))
        with torch.no_grad():
            return [out.numpy() for out in program.module()(*rows)]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {told.name: tensor.numpy() for told, tensor in zip(session.get_inputs(), rows, strict=True)}
    return [np.asarray(out) for out in session.run(None, given)]


def largest_difference(graph: Graph, found: Sequence[np.ndarray], rows: Sequence[Tensor]) -> float:
    """How far the found outputs are from the network's, relative to the larger of 1 and itself."""
    with torch.no_grad():
        expected = [out.numpy() for out in graph(*rows)]
    if [out.shape for out in found] != [out.shape for out in expected]:
        return float("inf")
    pairs = zip(found, expected, strict=True)
    return max(float((np.abs(a - b) / np.maximum(1.0, np.abs(b))).max(initial=0.0)) for a, b in pairs)
