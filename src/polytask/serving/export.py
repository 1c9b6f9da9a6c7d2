"""Networks as graphs for other programs, with all that lies before and behind in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.bundle import Bundle, Network
from polytask.errors import PolytaskError, RecipeError, StorageError
from polytask.models.encoders import registry as encoders
from polytask.models.inputs import SINGLE
from polytask.models.sharing import registry as sharings
from polytask.serving.graphs import FORMATS, Graph, as_file, largest_difference, quiet, random_rows, run
from polytask.storage import is_half, remove_halves, sha256, whole_file, write_json
from polytask.tasks import Task

__all__ = ["FORMATS", "SCHEMA", "TOLERANCE", "Exported", "export", "network_of", "quiet", "random_rows", "run"]

SCHEMA = 1
TOLERANCE = 1e-5
"""How far an output of the graph may be from the network's, relative to the larger of 1 and itself."""

_HOW = (
    "Encode columns as `transform` says, or words as `text` says, into the tensors of `inputs`, run the graph, and "
    "turn each output into an answer as the task's `state` and `decode` say."
)


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
    graph = Graph(network, name, asked).eval()
    path = target / f"graph{FORMATS[to]}"
    rows = random_rows(network.spec.inputs[name], 3)
    with whole_file(path) as temporary:
        temporary.write_bytes(as_file(graph, to, rows))
        difference = max(
            largest_difference(graph, run(temporary, rows), rows)
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
    raise RecipeError(_not_one(bundle, answered))


def _not_one(bundle: Bundle, answered: Mapping[tuple[int, ...], Sequence[str]]) -> str:
    """Why there is no one network, and which tasks have one."""
    who = "; ".join(f"{', '.join(names)} by {_count(bundle, models)}" for models, names in answered.items())
    able = [
        ",".join(names)
        for models, names in answered.items()
        if len(models) == 1 and isinstance(bundle.models[models[0]], Network)
    ]
    way = (
        f"Choose by --tasks: {' or '.join(able)}"
        if able
        else ("polytask predict and serve run such models; for a graph, train one network by polytask fit")
    )
    return f"A graph is made of one network, but each of these has another model or several: {who}. {way}."


def _count(bundle: Bundle, models: Sequence[int]) -> str:
    if not models:
        return "none"
    kinds = ", ".join(bundle.models[i].kind for i in models)
    return f"a model ({kinds})" if len(models) == 1 else f"{len(models)} models together ({kinds})"


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


def _extents(network: Network, source: str, task: str) -> tuple[int, ...]:
    """Height and width of the outputs, of a task of pixels; their number, of one of words."""
    (first, *_) = network.spec.inputs[source].fields.values()
    if task in network.spec.pixel_tasks:
        return first.shape[-2:]
    return first.shape[:1] if task in network.spec.element_tasks else ()


def output_of(task: Task, extents: Sequence[int]) -> dict[str, Any]:
    """A task's output in ``graph.json``: what it is, and how it becomes an answer."""
    return {
        "task": task.name,
        "kind": task.kind,
        "shape": ["batch", *extents, task.n_outputs],
        "decode": task.decoding,
        "options": task.options(),
        "state": task.state(),
    }


def _about(bundle: Bundle, network: Network, graph: Graph, difference: float) -> dict[str, Any]:
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
        "outputs": [output_of(bundle.task(name), _extents(network, graph.source, name)) for name in graph.tasks],
        "transform": None if transform is None else transform.state(),
        **({"text": bundle.texts[graph.source].state()} if graph.source in bundle.texts else {}),
        "largest_difference": difference,
        "provenance": bundle.provenance,
    }
