"""A graph with weights of 8 bits, and what that costs each task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytask.bundle import Bundle
from polytask.data.batch import ArraySource
from polytask.data.sources import table_source
from polytask.data.tables import open_table
from polytask.data.transform import TableTransform
from polytask.errors import BundleError, DataError, MissingExtraError, RecipeError
from polytask.serving.export import network_of
from polytask.serving.graphs import quiet, run
from polytask.shapes import Tensor
from polytask.storage import sha256, whole_file, write_json
from polytask.tasks.task import Task, task_from_options

__all__ = ["Metrics", "answer", "check_labelled", "quantise"]

Metrics = Mapping[str, Mapping[str, tuple[float, float]]]
"""By task and metric, the value with 32 bits and the value with 8."""


def answer(about: str | Path, data: Any) -> dict[str, Any]:
    """Answers of an exported graph for the rows of a table, by its JSON file alone: no bundle is read.

    Args:
        about: The ``graph.json`` of an export.
        data: Anything that :func:`~polytask.data.tables.open_table` opens.

    Raises:
        BundleError: If the graph was changed.
    """
    content, graph = _read(Path(about))
    rows = TableTransform().load_state(content["transform"]).transform(open_table(data))
    outputs = run(graph, [rows[told["name"]] for told in content["inputs"]])
    return {task.name: task.decode(torch.from_numpy(out)) for task, out in zip(_tasks(content), outputs, strict=True)}


def check_labelled(bundle: Bundle, data: Any, tasks: Sequence[str] | None = None, source: str | None = None) -> None:
    """Raise if :func:`quantise` could not compare on a table: to be called before the graph is made.

    Args:
        bundle: What is to be exported.
        data: The table.
        tasks: Names of the tasks; all if ``None``.
        source: Which source's rows the graph reads, if the bundle knows several.

    Raises:
        DataError: If a column is missing, a cell cannot be used, or there is no label of any task.
        RecipeError: If the rows are no table, or the tasks are not answered by one network.
        MissingExtraError: If ONNX Runtime is not installed.
    """
    _quantiser()
    name = bundle.source(source)
    asked = [bundle.task(task) for task in tasks] if tasks else list(bundle.tasks)
    network = network_of(bundle, [task.name for task in asked], name)
    transform = bundle.transforms.get(network.transform_of(name))
    _labelled(name, transform, [_of_any_source(task.options(), task.state()) for task in asked], data)


def quantise(about: str | Path, data: Any) -> tuple[Path, Metrics]:
    """Write the graph with weights of 8 bits beside it (dynamic quantisation), and compare both on labelled rows.

    Args:
        about: The ``graph.json`` of an export to ONNX.
        data: A table with inputs and labels that no training saw.

    Returns:
        The graph's file, and each task's metrics before and after.

    Raises:
        DataError: If a column is missing, a cell cannot be used, or there is no label of any task.
        RecipeError: If the rows are no table.
        MissingExtraError: If ONNX Runtime is not installed.
    """
    onnx, quantization = _quantiser()
    content, graph = _read(Path(about))
    tasks = _tasks(content)
    told = content["transform"]
    transform = None if told is None else TableTransform().load_state(told)
    source, labelled = _labelled(content["source"], transform, tasks, data)
    path = graph.with_name("graph-int8.onnx")
    model = onnx.load(graph)
    # The shapes that the exporter noted are of weights before it transposed them; the quantiser infers its own.
    del model.graph.value_info[:]
    with whole_file(path) as temporary, quiet():
        quantization.quantize_dynamic(model, str(temporary), weight_type=quantization.QuantType.QInt8)
    named: Mapping[str, Tensor] = source.inputs if isinstance(source.inputs, Mapping) else {"x": source.inputs}
    rows = [named[told["name"]] for told in content["inputs"]]
    found: dict[str, dict[str, tuple[float, float]]] = {}
    both = [dict(zip((t.name for t in tasks), run(file, rows), strict=True)) for file in (graph, path)]
    for task in labelled:
        before, after = (
            task.evaluate(
                torch.from_numpy(np.asarray(out[task.name])), source.targets[task.name], source.observed[task.name]
            )
            for out in both
        )
        found[task.name] = {metric: (before[metric], after[metric]) for metric in before}
    write_json(
        path.with_suffix(".json"),
        {
            "file": path.name,
            "sha256": sha256(path),
            "bytes": {"float32": graph.stat().st_size, "int8": path.stat().st_size},
            "rows": len(source),
            "metrics": {
                task: {metric: _plain(pair) for metric, pair in metrics.items()} for task, metrics in found.items()
            },
        },
    )
    return path, found


def _quantiser() -> tuple[Any, Any]:
    """The packages that write the graph.

    Raises:
        MissingExtraError: If one is not installed.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError as error:
        raise MissingExtraError("quantising", "onnxruntime", "export") from error
    return onnx, quantization


def _labelled(
    source: str, transform: TableTransform | None, tasks: Sequence[Task], data: Any
) -> tuple[ArraySource, list[Task]]:
    """The rows of a table as tensors, and the tasks whose labels it has."""
    if transform is None:
        raise RecipeError(
            f"Weights of 8 bits are compared on a table, and rows of {source!r} are texts, files or arrays: take "
            "--int8 out of the command."
        )
    table = open_table(data)
    labelled = [task for task in tasks if all(target in table for target in task.targets)]
    if not labelled:
        raise DataError(f"{table.origin} has no column with labels of {', '.join(task.name for task in tasks)}.")
    return table_source(source, table, labelled, transform), labelled


def _plain(pair: tuple[float, float]) -> dict[str, float | None]:
    before, after = (float(value) if np.isfinite(value) else None for value in pair)
    return {"float32": before, "int8": after}


def _tasks(content: Mapping[str, Any]) -> list[Task]:
    return [_of_any_source(told["options"], told["state"]) for told in content["outputs"]]


def _of_any_source(options: Mapping[str, Any], state: dict[str, Any]) -> Task:
    """A fitted task whose labels may come from any table."""
    task = task_from_options({**options, "source": None})
    task.load_state(state)
    return task


def _read(about: Path) -> tuple[dict[str, Any], Path]:
    try:
        content: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
        graph = about.parent / Path(content["file"]).name
        if sha256(graph) != content["sha256"]:
            raise BundleError(f"{graph} was changed: its checksum is not the one that {about.name} tells.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{about} is no description of an exported graph: {error}") from error
    return content, graph
