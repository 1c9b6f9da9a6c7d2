"""Networks as graphs for other programs: ONNX and torch.export, with all that lies before and behind in a JSON file."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from polytask.bundle import Bundle, Network
from polytask.errors import MissingExtraError, PolytaskError, RecipeError, StorageError
from polytask.models.encoders import registry as encoders
from polytask.models.inputs import SINGLE, InputShape
from polytask.models.sharing import registry as sharings
from polytask.shapes import Inputs, Tensor
from polytask.storage import is_half, remove_halves, sha256, whole_file, write_json

__all__ = ["FORMATS", "SCHEMA", "TOLERANCE", "Exported", "export", "network_of", "quiet", "random_rows", "run"]

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
"""Endings of the graphs' files."""

SCHEMA = 1
TOLERANCE = 1e-5
"""How far an output of the graph may be from the network's, relative to the larger of 1 and itself."""

_HOW = (
    "Encode columns as `transform` says, or words as `text` says, into the tensors of `inputs`, run the graph, and "
    "turn each output into an answer as the task's `state` and `decode` say."
)
_DECODE = {
    "regression": "value = output * scale + center of the state, then the inverse of its scaling if it has one",
    "quantile": "as regression for each quantile, sorted",
    "count": "rate = exp(output)",
    "binary": "P(second class) = sigmoid(output)",
    "multiclass": "P(class k) = softmax(output)[k], classes in the order of the state",
    "multilabel": "P(label k) = sigmoid(output[k])",
    "ordinal": "P(beyond level k | at least k) = sigmoid(output[k]); the answer is the median level",
    "segmentation": "class of pixel [h, w] = the largest of output[h, w]",
    "dense_regression": "value of pixel [h, w] = output[h, w] * scale + centre of the state, or output over its length",
    "detection": (
        "P(centre of class k at [h, w]) = sigmoid(output[h, w, k]), a peak among its 8 neighbours; then the centre "
        "(w + output[-4], h + output[-3]) and the size output[-2:] * sizes of the state"
    ),
    "survival": (
        "P(lasts beyond edge k of the state) = the product of sigmoid(output[j]) for j up to k; the answer is the "
        "expected time within the last edge, the area under these chances with straight lines between edges, 1 at 0"
    ),
    "synthesis": "numbers = output in the shape of the state's means, * scale + means",
    "separation": (
        "share of part k in frequency f at moment t = output[t, k * F + f], with F = window / 2 + 1 of the options; "
        "multiplied with the mixture's short-time spectrum, it gives that of the part"
    ),
    "transcription": (
        "the largest of softmax(output[t]) at each moment t, the same one in a row taken once, zeros (the blank) left "
        "out; k stands for symbol k - 1 of the state; with a beam the likeliest text among that many"
    ),
    "tagging": "P(tag k of word l) = softmax(output[l])[k]; with transitions the best path, as the state says",
    "retrieval": "embedding = output over its length",
    "reconstruction": "numbers in the units of the inputs, and logits of codes",
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        graph: The graph's file.
        about: The JSON file beside it.
        difference: Largest difference between an output of the graph and the network's, on random rows.
    """

    graph: Path
    about: Path
    difference: float


class _Graph(nn.Module):
    """The network with tensors in and a tuple of tensors out, as graphs have no dicts."""

    def __init__(self, network: Network, source: str, tasks: Sequence[str]):
        super().__init__()
        self.model, self.source, self.tasks = network.model, source, tuple(tasks)
        self.passes = network.passes(tasks)
        self.names = tuple(network.spec.inputs[source].fields)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs: Inputs = tensors[0] if self.names == (SINGLE,) else dict(zip(self.names, tensors, strict=True))
        outputs: dict[str, Tensor] = {}
        for together in self.passes:
            outputs |= self.model(inputs, together, self.source)
        return tuple(outputs[task] for task in self.tasks)


def export(
    bundle: Bundle, folder: str | Path, to: str = "onnx", tasks: Sequence[str] | None = None, source: str | None = None
) -> Exported:
    """Write the network that answers the tasks as a graph for batches of any size, and check it.

    Args:
        bundle: The bundle.
        folder: Where ``graph.onnx`` or ``graph.pt2`` goes, and ``graph.json`` beside it.
        to: ``onnx`` or ``torch`` (a program of ``torch.export``).
        tasks: Names of the tasks; all if ``None``.
        source: Which source's rows the graph reads, if the bundle knows several.

    Raises:
        RecipeError: If the tasks are not answered by one network, or the network does not export.
        PolytaskError: If the graph's outputs are not those of the network.
        StorageError: If the folder holds something already, or cannot be written.
        MissingExtraError: If ONNX is asked for and its packages are not installed.
    """
    if to not in FORMATS:
        raise RecipeError(f"A network is exported to {' or '.join(FORMATS)}, not to {to!r}.")
    target = Path(folder)
    about = target / "graph.json"
    if target.exists() and (not target.is_dir() or any(not _was_left(path) for path in target.iterdir())):
        raise StorageError(f"{target} holds something already, and nothing is overwritten. Choose another --out.")
    remove_halves(target)
    name = bundle.source(source)
    asked = [bundle.task(task).name for task in tasks] if tasks else [task.name for task in bundle.tasks]
    network = network_of(bundle, asked, name)
    _check_exports(network)
    graph = _Graph(network, name, asked).eval()
    path = target / f"graph{FORMATS[to]}"
    rows = random_rows(network.spec.inputs[name], 3)
    with whole_file(path) as temporary:
        temporary.write_bytes(_onnx(graph, rows) if to == "onnx" else _torch(graph, rows))
        difference = max(
            _difference(graph, run(temporary, rows), rows)
            for rows in (random_rows(network.spec.inputs[name], n) for n in (1, 2, 7))
        )
        if not difference <= TOLERANCE:
            raise PolytaskError(f"The graph's outputs differ from the network's by {difference:.1e}; it was not kept.")
        # Before the graph has its name: one without the other is then always what a process that was killed left.
        write_json(
            about, {**_about(bundle, network, graph, difference), "file": path.name, "sha256": sha256(temporary)}
        )
    return Exported(path, about, difference)


def _was_left(path: Path) -> bool:
    """Whether a process that was killed left this: half of a file, or the description of a graph that is not there."""
    if path.name != "graph.json":
        return is_half(path)
    try:
        return not (path.parent / Path(json.loads(path.read_text(encoding="utf-8"))["file"]).name).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def network_of(bundle: Bundle, tasks: Sequence[str], source: str) -> Network:
    """The one network that answers the tasks.

    Raises:
        RecipeError: If it is no network, or not one.
    """
    answered: dict[tuple[int, ...], list[str]] = {}
    for task in tasks:
        answered.setdefault(tuple(bundle.answering(task, source)), []).append(task)
    positions = next(iter(answered))
    found = bundle.models[positions[0]] if len(answered) == 1 and len(positions) == 1 else None
    if isinstance(found, Network):
        return found
    chosen = [bundle.models[i] for models in answered for i in models]
    if chosen and not any(isinstance(model, Network) for model in chosen):
        kinds = ", ".join(dict.fromkeys(model.kind for model in chosen))
        raise RecipeError(
            f"Only networks are exported, and {', '.join(tasks)} "
            f"{'is' if len(tasks) == 1 else 'are'} answered without one ({kinds}). polytask predict and serve run them."
        )
    who = "; ".join(
        f"{', '.join(names)} by {' and '.join(f'{bundle.models[i].kind} {i}' for i in models) or 'no model'}"
        for models, names in answered.items()
    )
    raise RecipeError(f"A graph is made of one network, but the tasks are answered thus: {who}. Choose by --tasks.")


def _check_exports(network: Network) -> None:
    spec = network.spec
    if spec.encoder != "module" and not (encoder := encoders.load(spec.encoder)).exports:
        able = ", ".join(name for name in encoders.names() if name != "module" and encoders.load(name).exports)
        raise RecipeError(
            f"The encoder {spec.encoder!r} does not export: {encoder.why_no_export or 'it does not claim to'}. "
            f"These do: {able}."
        )
    if not sharings.load(spec.sharing).exports:
        raise RecipeError(f"The sharing {spec.sharing!r} does not claim to export the same outputs for every batch.")


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


def _dynamic(rows: Sequence[Tensor]) -> tuple[tuple[dict[int, Any], ...]]:
    batch = torch.export.Dim("batch", min=1)
    return (tuple({0: batch} for _ in rows),)


def _torch(graph: _Graph, rows: tuple[Tensor, ...]) -> bytes:
    with quiet():
        program = torch.export.export(graph, rows, dynamic_shapes=_dynamic(rows))
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx(graph: _Graph, rows: tuple[Tensor, ...]) -> bytes:
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


def _difference(graph: _Graph, found: Sequence[np.ndarray], rows: Sequence[Tensor]) -> float:
    with torch.no_grad():
        expected = [out.numpy() for out in graph(*rows)]
    if [out.shape for out in found] != [out.shape for out in expected]:
        return float("inf")
    pairs = zip(found, expected, strict=True)
    return max(float((np.abs(a - b) / np.maximum(1.0, np.abs(b))).max(initial=0.0)) for a, b in pairs)


def _extents(network: Network, source: str, task: str) -> tuple[int, ...]:
    """Height and width of the outputs, of a task of pixels; their number, of one of words."""
    (first, *_) = network.spec.inputs[source].fields.values()
    if task in network.spec.pixel_tasks:
        return first.shape[-2:]
    return first.shape[:1] if task in network.spec.element_tasks else ()


def _about(bundle: Bundle, network: Network, graph: _Graph, difference: float) -> dict[str, Any]:
    """What lies before the graph and behind it, as plain data."""
    key = network.transform_of(graph.source)
    transform = bundle.transforms.get(key)
    shape = network.spec.inputs[graph.source]
    numeric = () if transform is None else transform.numeric_names
    codes: Mapping[str, int] = {} if transform is None else transform.cardinalities
    columns = {"numeric": list(numeric), "categorical": list(codes)}
    return {
        "schema": SCHEMA,
        "how": _HOW,
        "source": graph.source,
        "inputs": [
            {
                "name": name or SINGLE,
                "type": "int64" if field.cardinalities else "float32",
                "shape": ["batch", *field.shape],
                "columns": columns.get(name, []),
                "cardinalities": list(field.cardinalities),
            }
            for name, field in shape.fields.items()
        ],
        "outputs": [
            {
                "task": name,
                "kind": bundle.task(name).kind,
                "shape": ["batch", *_extents(network, graph.source, name), bundle.task(name).n_outputs],
                "decode": _DECODE.get(bundle.task(name).kind, "as the task's kind says"),
                "options": bundle.task(name).options(),
                "state": bundle.task(name).state(),
            }
            for name in graph.tasks
        ],
        "transform": None if transform is None else transform.state(),
        **({"text": bundle.texts[graph.source].state()} if graph.source in bundle.texts else {}),
        "largest_difference": difference,
        "provenance": bundle.provenance,
    }
