"""Running a recipe: data to a trained bundle, a record, and, if asked, one model a task beside it."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from polytask.balancing import registry as balancers
from polytask.balancing.multipliers import registry as multipliers
from polytask.bundle import Bundle, load
from polytask.data.augmentations import registry as augmentations
from polytask.data.samplers import registry as samplers
from polytask.errors import RecipeError, UnknownNameError
from polytask.models.encoders import registry as encoders
from polytask.models.sharing import registry as sharings
from polytask.records import RunRecord, TaskResult, without_nan
from polytask.registry import check_options
from polytask.storage import write_json
from polytask.tasks import registry as kinds
from polytask.tasks.infer import explain_kind
from polytask.tasks.task import Prediction, Task
from polytask.training.building import make_schedule
from polytask.training.constraint_spec import ConstraintSpec, read_constraint
from polytask.training.data_sets import DataSet, TableData
from polytask.training.defaults import for_tables
from polytask.training.dividing import splitter_of
from polytask.training.importance import Importance, add_importance
from polytask.training.preparation import Prepared, Splitter, prepare
from polytask.training.progress import Progress
from polytask.training.ranks import here, joined
from polytask.training.row_columns import add_groups, add_ranked, add_task_weights
from polytask.training.run import Fitted, Plan, check_constraints, fit
from polytask.training.run_folder import RunFolder, environment
from polytask.training.schedules import registry as schedules
from polytask.training.settings import Settings
from polytask.training.streamed_data import StreamedTable
from polytask.training.task_control import CONTROLS, TaskControl, task_control
from polytask.training.transfer import with_joint

if TYPE_CHECKING:
    from polytask.recipe import Recipe, SourceSpec

__all__ = ["Run", "is_table", "plan_of", "prepare_recipe", "run", "targets_of"]


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
        _check_names(recipe)  # and the folder: what is wrong with them is said before data are read
        if out is None:
            return _run(recipe, data, None, resume, compare, module, progress)
        with contextlib.closing(RunFolder(out)) as folder:
            folder.check(resume=resume)
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
    record = _record(recipe, prepared, fitted, {name: one.metrics for name, one in single.items()}, joint, machine)
    if folder is not None:
        here().by_first(lambda: _save(folder, fitted, record))
        folder.drop_checkpoint()
    return Run(fitted.bundle, record, fitted.history, folder.path if folder else None)


def _save(folder: RunFolder, fitted: Fitted, record: RunRecord) -> None:
    fitted.bundle.save(folder.bundle_path)
    write_json(folder.record_path, record.to_json())


def _check_names(recipe: Recipe) -> None:
    """Raise if a method is not known, or the device is not there.

    Raises:
        UnknownNameError: Naming the nearest one.
        RecipeError: If PyTorch cannot use the device.
    """
    check_device(recipe.training)
    for registry, name in (
        (encoders, recipe.encoder.name),
        (sharings, recipe.sharing.name),
        (balancers, recipe.balancer.name),
        (samplers, recipe.sampler.name),
        (schedules, recipe.schedule.name),
        (multipliers, recipe.multipliers.name),
        *((augmentations, choice.name) for spec in recipe.data.values() for choice in spec.augment),
        *((kinds, str(options["kind"])) for options in recipe.tasks.values() if options.get("kind") is not None),
    ):
        if name not in registry.names() and not (registry is encoders and name == "auto"):
            raise UnknownNameError(registry.noun or registry.role, name, registry.names())
    schedule, _ = make_schedule(recipe.schedule.name, recipe.schedule.options)
    if left := schedule.never_trains(tuple(recipe.tasks)):
        raise RecipeError(
            f"Schedule {recipe.schedule.name!r} trains no stage of {', '.join(left)}, whose answers would be worth "
            "nothing: name them in the schedule too, or take them out of the tasks."
        )


def check_device(training: Mapping[str, Any]) -> None:
    """Raise if the device of a training is not there.

    Raises:
        RecipeError: If PyTorch cannot use it.
    """
    device = training.get("device", "cpu")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA says so by an assertion
        raise RecipeError(f"The device {device!r} cannot be used: {str(error).splitlines()[0]}") from error


def open_data(recipe: Recipe, data: Any) -> list[DataSet]:
    """The data sets of a recipe: from its paths, or from what is given in Python."""
    given: Mapping[str, Any]
    if data is None:
        given = {name: spec.path for name, spec in recipe.data.items()}
        with_path = [name for name, path in given.items() if path is not None]
        if with_path and len(with_path) < len(given):
            without = next(name for name, path in given.items() if path is None)
            raise RecipeError(str(UnknownNameError("data for the source", without, with_path)))
        if not with_path:
            raise RecipeError("The recipe names no data: give `data:` in the recipe, or pass the data to run().")
    elif isinstance(data, DataSet):
        given = {data.name: data}
    elif isinstance(data, list) and data and all(isinstance(d, DataSet) for d in data):
        given = {d.name: d for d in data}
    elif isinstance(data, Mapping) and data and not is_table(data):
        given = data
    else:
        given = {next(iter(recipe.data), "data"): data}
    targets = [target for name, options in recipe.tasks.items() for target in targets_of(name, options)]
    beside = [str(options["row_weights"]) for options in recipe.tasks.values() if options.get("row_weights")]
    grouped = recipe.split.column if recipe.split.method == "grouped" else None
    return [
        d if isinstance(d, DataSet) else _table(name, d, recipe.source(name), targets, grouped, beside)
        for name, d in given.items()
    ]


def is_table(data: Mapping[str, Any]) -> bool:
    """Whether a mapping is one table, column by column, and not several tables."""
    return all(isinstance(v, np.ndarray | list | tuple | pd.Series) for v in data.values())


def _table(
    name: str, data: Any, spec: SourceSpec, targets: list[str], grouped: str | None, beside: list[str]
) -> TableData:
    settings: dict[str, Any] = {
        "inputs": spec.inputs,
        "drop": spec.drop,
        "group": grouped,
        "beside": [*beside, *([spec.importance] if isinstance(spec.importance, str) else [])],
        "targets": targets,
        "row_weights": spec.row_weights,
        "allow": spec.allow,
        "options": {"scaling": spec.scaling, "kinds": spec.kinds},
    }
    if not spec.streamed:
        return TableData(name, data, **settings)
    if spec.streamed is not True:
        settings["window"] = spec.streamed
    return StreamedTable(name, data, **settings)


def targets_of(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The target columns of a task of a recipe."""
    if "kind" in options and kinds.load(options["kind"]).of_inputs:
        return ()
    target = options.get("target") or name
    return (target,) if isinstance(target, str) else tuple(target)


def make_tasks(recipe: Recipe, data: list[DataSet]) -> tuple[list[Task], list[str]]:
    """The tasks of a recipe; kinds that are not given are inferred, and the notes say why."""
    tasks: list[Task] = []
    inferred: dict[str, list[tuple[str, str]]] = {}
    for name, options in recipe.tasks.items():
        kind = options.get("kind")
        if kind is None:
            kind, reason = _infer(name, options, data)
            inferred.setdefault(kind, []).append((name, reason))
        rest = {key: value for key, value in options.items() if key not in ("kind", *CONTROLS)}
        for key in ("target", "inputs"):
            if isinstance(rest.get(key), list):
                rest[key] = tuple(rest[key])
        tasks.append(kinds.create(kind, name=name, **rest))
    return tasks, _inferred_notes(inferred)


def _inferred_notes(inferred: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """Why tasks are of the kind that they are; of a hundred tasks of one kind in one sentence, not in a hundred."""
    notes = []
    for kind, tasks in inferred.items():
        if len(tasks) <= 8:
            notes += [f"Task {name!r} is taken as {kind}: {reason}." for name, reason in tasks]
            continue
        (first, reason), names = tasks[0], ", ".join(repr(name) for name, _ in tasks[:4])
        notes.append(
            f"Tasks {names} and {len(tasks) - 4} more are taken as {kind}, each by its labels; {first!r}: {reason}."
        )
    return notes


def _infer(name: str, options: Mapping[str, Any], data: list[DataSet]) -> tuple[str, str]:
    targets = targets_of(name, options)
    if len(targets) > 1:
        return "multilabel", "it has several target columns"
    # Any kind finds the labels; regression is only asked where they are.
    probe = kinds.create("regression", name=name, target=targets[0], source=options.get("source"))
    for data_set in data:
        if data_set.has(probe):
            return explain_kind(data_set.labels(probe), name)
    return "regression", "no data set has labels of it"


def prepare_recipe(recipe: Recipe, data: Any = None, splitter: Splitter | None = None) -> Prepared:
    """The data of a recipe, ready for training; divided by the splitter, if there is one, else as the recipe says."""
    data_sets = open_data(recipe, data)
    prepared = prepare_sets(recipe, data_sets, splitter)
    specs = [read_constraint(given) for given in recipe.constraints]
    add_groups(prepared, data_sets, [c.by for c in specs if isinstance(c, ConstraintSpec) and c.by is not None])
    asked = {name: importance_of(name, spec) for name, spec in recipe.data.items()}
    add_importance(prepared, data_sets, {name: importance for name, importance in asked.items() if importance})
    return prepared


def prepare_sets(recipe: Recipe, data_sets: list[DataSet], splitter: Splitter | None = None) -> Prepared:
    """Data sets that are open, with what the recipe's tasks say about their rows."""
    tasks, notes = make_tasks(recipe, data_sets)
    controls = controls_of(recipe)
    for data_set in data_sets:
        data_set.conditions = conditions_of(recipe)
    prepared = prepare(data_sets, tasks, splitter or splitter_of(recipe.split, recipe.seed, data_sets, tasks))
    prepared.notes[:0] = notes
    add_task_weights(prepared, data_sets, {n: c.row_weights for n, c in controls.items() if c.row_weights is not None})
    add_ranked(prepared, data_sets, {n: c.ranked_by for n, c in controls.items() if c.ranked_by is not None})
    return prepared


def importance_of(name: str, spec: SourceSpec) -> Importance | None:
    """How a source's training rows are weighted.

    Raises:
        RecipeError: If an option is not known or out of range; names the source.
    """
    given = spec.importance
    if given is None:
        return None
    options = {"column": given} if isinstance(given, str) else given
    check_options(f"importance of source {name!r}", Importance, options)
    try:
        return Importance(**options)
    except (RecipeError, TypeError) as error:
        raise RecipeError(f"Source {name!r}: {error}") from None


def controls_of(recipe: Recipe) -> dict[str, TaskControl]:
    """Settings of the tasks that have their own."""
    found = {name: task_control(name, options) for name, options in recipe.tasks.items()}
    return {name: control for name, control in found.items() if control != TaskControl()}


def conditions_of(recipe: Recipe) -> dict[str, Mapping[str, Any]]:
    """Of the tasks that are only defined on some rows, the values that other columns have there."""
    return {name: control.only_where for name, control in controls_of(recipe).items() if control.only_where}


def check_stop_rule(settings: Settings, tasks: Collection[str]) -> None:
    """Raise if the stop rule is the loss of a task that there is not.

    Raises:
        UnknownNameError: Naming the nearest one.
    """
    decides = settings.stop_rule.removeprefix("task:")
    if decides != settings.stop_rule and decides not in tasks:
        raise UnknownNameError("task", decides, tasks, "stop_rule")


def plan_of(
    recipe: Recipe, prepared: Prepared, *, has_module: bool = False, tasks: Collection[str] | None = None
) -> Plan:
    """What to train, with ``auto`` resolved by the shapes of the inputs.

    Args:
        recipe: What was asked for.
        prepared: The data, of all tasks or some.
        has_module: Whether the user brings an encoder.
        tasks: Names of all tasks, where the data is of some.

    Raises:
        UnknownNameError: If the stop rule is the loss of a task that there is not.
    """
    here_now = [task.name for task in prepared.tasks]
    encoder = recipe.encoder.name
    if encoder == "auto":
        encoder = "module" if has_module else _encoder_for(prepared)
    n_rows = max(map(len, prepared.train.values()))
    usual = for_tables(n_rows, recipe.training) if encoder in ("tabm", "tabular") else {}
    settings = Settings.from_options({**usual, **recipe.training, "seed": recipe.seed})
    check_stop_rule(settings, tasks or here_now)
    plan = Plan(
        encoder=encoder,
        sharing=recipe.sharing.name,
        balancer=recipe.balancer.name,
        sampler=recipe.sampler.name,
        encoder_options=recipe.encoder.options,
        sharing_options=recipe.sharing.options,
        balancer_options=recipe.balancer.options,
        sampler_options=recipe.sampler.options,
        head_hidden=tuple(recipe.head_hidden),
        settings=settings,
        schedule=recipe.schedule.name,
        schedule_options=recipe.schedule.options,
        constraints=tuple(read_constraint(given) for given in recipe.constraints),
        multipliers=recipe.multipliers.name,
        multipliers_options=recipe.multipliers.options,
        controls=controls_of(recipe),
        augment={
            name: [(a.name, a.options) for a in spec.augment] for name, spec in recipe.data.items() if spec.augment
        },
        own_norms=tuple(name for name, spec in recipe.data.items() if spec.own_norms),
    )
    return plan.of(here_now)


def _encoder_for(prepared: Prepared) -> str:
    shapes = list(prepared.shapes.values())
    if all({"numeric", "molecule", "categorical"} & set(shape.fields) for shape in shapes):
        return "tabm"
    if all("words" in shape.fields for shape in shapes):
        return "bigru"
    if all(len(shape.fields) == 1 and len(next(iter(shape.fields.values())).shape) in (2, 3) for shape in shapes):
        return "cnn"
    return "mlp"


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
    tasks = {}
    held_out = prepared.test or prepared.validation
    for task in prepared.tasks:
        metric = task.metrics[0]
        tasks[task.name] = TaskResult(
            kind=task.kind,
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            metrics=without_nan(fitted.metrics.get(task.name, {})),
            single=single.get(task.name),
            n_train=_n_labels(prepared.train, task),
            n_test=_n_labels(held_out, task),
            joint=joint.get(task.name),
        )
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


def _n_labels(sources: Mapping[str, Any], task: Task) -> int:
    return sum(int(source.observed[task.name].sum()) for source in sources.values() if task.name in source.tasks)
