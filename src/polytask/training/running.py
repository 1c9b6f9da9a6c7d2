"""Running a recipe: data to a trained bundle, a record, and, if asked, one model a task beside it."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from polytask.bundle import Bundle, load
from polytask.records import RunRecord, without_nan
from polytask.storage import write_json
from polytask.tasks.task import Prediction
from polytask.training.constraint_spec import ConstraintSpec
from polytask.training.interruption import resumable_in
from polytask.training.opening import prepare_recipe
from polytask.training.planning import check_names, plan_of
from polytask.training.preparation import Prepared
from polytask.training.progress import Progress
from polytask.training.ranks import here, joined
from polytask.training.results import result_of, step_notes
from polytask.training.run import Fitted, Plan, check_constraints, fit
from polytask.training.run_folder import RunFolder, environment
from polytask.training.transfer import with_joint

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["Run", "plan_of", "prepare_recipe", "run"]


@dataclass
class Run:
    """What a run left.

    Args:
        bundle: The trained model.
        record: The results.
        history: A dict per epoch.
        path: The run folder, if there is one.
    """

    bundle: Bundle
    record: RunRecord
    history: list[dict[str, Any]]
    path: Path | None = None

    def __repr__(self) -> str:
        tasks = ", ".join(f"{name} {r.metric} {r.metrics.get(r.metric)}" for name, r in self.record.tasks.items())
        return f"Run({tasks}; epochs={self.record.epochs}, path={str(self.path) if self.path else None!r})"

    def predict(self, data: Any, source: str | None = None) -> dict[str, Prediction]:
        """Answers of all tasks for new rows, see :meth:`polytask.bundle.Bundle.predict`."""
        return self.bundle.predict(data, source=source)

    def table(self) -> pd.DataFrame:
        """A row per task: its metric on the test rows, and beside it a single model's."""
        rows = []
        for name, result in self.record.tasks.items():
            row: dict[str, Any] = {
                "task": name,
                "kind": result.kind,
                "metric": result.metric + (" (higher is better)" if result.higher_is_better else " (lower is better)"),
                self.record.how: result.metrics.get(result.metric),
            }
            if result.joint is not None:
                row["joint"] = result.joint.get(result.metric)
            if result.single is not None:
                row["single"] = result.single.get(result.metric)
            rows.append(row)
        return pd.DataFrame(rows)


def run(
    recipe: Recipe,
    data: Any = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    compare: bool = False,
    module: nn.Module | None = None,
    progress: Progress | None = None,
) -> Run:
    """Run a recipe; see :meth:`polytask.recipe.Recipe.run`."""
    with joined(recipe.training.get("device", "cpu")) as ranks:
        progress = progress if ranks.is_first else None
        check_names(recipe)  # and the folder: what is wrong with them is said before data are read
        if out is None:
            return _run(recipe, data, None, resume, compare, module, progress)
        with contextlib.closing(RunFolder(out)) as folder:
            folder.check(resume=resume)
            with resumable_in(folder):
                return _run(recipe, data, folder, resume, compare, module, progress)


def _run(
    recipe: Recipe,
    data: Any,
    folder: RunFolder | None,
    resume: bool,
    compare: bool,
    module: nn.Module | None,
    progress: Progress | None,
) -> Run:
    prepared = prepare_recipe(recipe, data)
    plan = plan_of(recipe, prepared, has_module=module is not None)
    if folder is not None:
        # Parameters are drawn in the order of tasks and sources, which equal mappings need not have in common.
        order = [list(recipe.tasks), list(prepared.data)]
        described = {"recipe": recipe.plain(), "order": order, "data": prepared.data, "compare": compare}
        folder.open(without_nan(described), resume=resume)
        if folder.is_finished:
            return Run(load(folder.path, module), RunRecord.load(folder.record_path), folder.history(), folder.path)
    machine = environment()
    provenance = {
        "recipe": recipe.plain(),
        "recipe_hash": recipe.hash(),
        "data": prepared.data,
        "environment": machine,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    single: dict[str, _Single] = {}
    compares = any(isinstance(c, ConstraintSpec) and c.worse_than_single_by is not None for c in plan.constraints)
    if compares:  # the bounds are the single models' losses, so these come first
        check_constraints(plan, prepared, module)
        single = _train_single(prepared, plan, folder, module, progress)
        plan = replace(plan, single_losses={name: one.loss for name, one in single.items() if one.loss is not None})
    fitted = fit(prepared, plan, folder=folder, module=module, progress=progress, provenance=provenance)
    if compare and not compares:
        single = _train_single(prepared, plan, folder, module, progress)
    joint = _train_joint(prepared, plan, folder, module, progress) if compare and fitted.sequence is not None else {}
    fitted.notes += step_notes(fitted.stages, plan.settings)
    record = _record(recipe, prepared, fitted, {name: one.metrics for name, one in single.items()}, joint, machine)
    if folder is not None:
        here().by_first(lambda: _save(folder, fitted, record))
        folder.drop_checkpoint()
    return Run(fitted.bundle, record, fitted.history, folder.path if folder else None)


def _save(folder: RunFolder, fitted: Fitted, record: RunRecord) -> None:
    fitted.bundle.save(folder.bundle_path)
    write_json(folder.record_path, record.to_json())


@dataclass(frozen=True)
class _Single:
    """Test metrics of a model of one task, and the validation loss of its kept epoch."""

    metrics: dict[str, float | None]
    loss: float | None


def _train_single(
    prepared: Prepared, plan: Plan, folder: RunFolder | None, module: nn.Module | None, progress: Progress | None
) -> dict[str, _Single]:
    """One model a task; those that a folder holds already are not trained again."""
    results: dict[str, _Single] = {}
    for index, task in enumerate(prepared.tasks):
        known = folder.path / "single" / f"{index}.json" if folder else None
        if known is not None and (held := here().by_first(partial(_read, known))):
            results[task.name] = _Single(held["metrics"], held.get("loss"))
            continue
        part = prepared.only([task.name])
        if task.weight == 0.0:  # no objective in the joint model, and the only one here
            part.tasks = [copy.copy(task)]
            part.tasks[0].weight = 1.0
        fitted = fit(part, plan.alone(), module=module, progress=progress, title=f"{task.name} alone")
        loss = without_nan(fitted.validation.get(task.name))
        one = results[task.name] = _Single(without_nan(fitted.metrics.get(task.name, {})), loss)
        if known is not None:
            here().by_first(partial(write_json, known, {"task": task.name, "metrics": one.metrics, "loss": one.loss}))
    return results


def _train_joint(
    prepared: Prepared, plan: Plan, folder: RunFolder | None, module: nn.Module | None, progress: Progress | None
) -> dict[str, dict[str, float | None]]:
    """Test metrics of a model that is trained on all tasks at once, to hold stages against."""
    known = folder.path / "single" / "joint.json" if folder else None
    if known is not None and (held := here().by_first(partial(_read, known))):
        found: dict[str, dict[str, float | None]] = held["metrics"]
        return found
    fitted = fit(prepared, plan.jointly(), module=module, progress=progress, title="all at once")
    metrics: dict[str, dict[str, float | None]] = without_nan(fitted.metrics)
    if known is not None:
        here().by_first(partial(write_json, known, {"metrics": metrics}))
    return metrics


def _read(path: Path) -> dict[str, Any] | None:
    """What a file holds, if it is there."""
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found


def _record(
    recipe: Recipe,
    prepared: Prepared,
    fitted: Fitted,
    single: Mapping[str, Mapping[str, float | None]],
    joint: Mapping[str, Mapping[str, float | None]],
    environment: Mapping[str, Any],
) -> RunRecord:
    tasks = {
        task.name: result_of(task, fitted.metrics, prepared, single.get(task.name), joint.get(task.name))
        for task in prepared.tasks
    }
    sequence = fitted.sequence
    if sequence is not None and joint:
        sequence = with_joint(sequence, {name: (r.metric, r.higher_is_better) for name, r in tasks.items()}, joint)
    return RunRecord(
        tasks=tasks,
        recipe=recipe.plain(),
        recipe_hash=recipe.hash(),
        data=prepared.data,
        epochs=fitted.epochs,
        best_epoch=fitted.best_epoch,
        seconds=round(fitted.seconds, 3),
        parameters=fitted.parameters,
        sampling=fitted.sampling,
        notes=(*prepared.notes, *fitted.notes),
        environment={**environment, **_sent(fitted.history)},
        sequence=sequence,
        constraints=fitted.constraints,
    )


def _sent(history: list[dict[str, Any]]) -> dict[str, int]:
    """In data parallel: bytes that each process gave to be summed, the mean over the epochs."""
    sent = [line["bytes_per_step"] for line in history if "bytes_per_step" in line]
    return {"bytes_per_step": round(sum(sent) / len(sent))} if sent else {}
