"""Adding tasks to a trained model: new heads on an old network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from polytask.bundle import Bundle, Network, load
from polytask.errors import BundleError, RecipeError, UnknownNameError
from polytask.models.model import MultiTaskModel
from polytask.models.spec import ModelSpec
from polytask.recipe import Recipe
from polytask.records import ExtensionRecord, RunRecord, TaskResult, without_nan
from polytask.storage import write_json
from polytask.tasks.task import Task
from polytask.training.copied_heads import copied_heads, copied_tasks
from polytask.training.evaluation import evaluate
from polytask.training.extension_checks import check_asked
from polytask.training.growth import check_new, own_parameters
from polytask.training.known_data import check_labels, known_data
from polytask.training.listeners import Listeners
from polytask.training.new_heads import ExtensionSettings, NewHeads, OldTasks
from polytask.training.old_rows import OldRows, old_rows, provenances
from polytask.training.opening import controls_of, prepare_sets
from polytask.training.own_ways import plateau_notes
from polytask.training.planning import check_stop_rule
from polytask.training.progress import Progress, Silent
from polytask.training.results import n_labels, result_of, step_notes
from polytask.training.run_folder import RunFolder, environment
from polytask.training.running import Run
from polytask.training.settings import Settings
from polytask.training.stages import Stages

__all__ = ["extend"]

_FEW = 20
"""With fewer test labels than this, a note says that they are few."""


def extend(
    run: str | Path | Bundle,
    data: Any = None,
    targets: Any = (),
    *,
    out: str | Path | None = None,
    adapters: bool | Mapping[str, Any] = False,
    unfreeze: bool = False,
    remedies: Sequence[Any] = (),
    old_data: Any = None,
    start: str = "closest",
    like: str | None = None,
    training: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
    source: str | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Add tasks to a trained model: heads of their own, on the network that the old tasks have.

    With the network frozen, which is the default, the old tasks answer as before, bit for bit; this is checked before
    anything is saved. Unfrozen, what changes for them is measured on rows that their training did not see.

    Args:
        run: Run folder, bundle folder, or bundle.
        data: A table with the old model's input columns and the new targets (or a
            :class:`~polytask.training.data_sets.DataSet` of arrays); not needed with ``like``.
        targets: The new tasks: names, or options by name, as in a recipe; ``only_where``, ``row_weights`` and the like
            among them, but no ``patience`` of a task's own, because one epoch is kept for all.
        out: Run folder to make; nothing is written if ``None``.
        adapters: For a hard-shared network that stays frozen: whether the new tasks have residual adapters of their
            own in it, beside their heads; or the adapters' options, ``{"bottleneck": 8}``.
        unfreeze: Train the old network too.
        remedies: Against forgetting, if it is: names or ``{name: ..., options}``; those that can be made afterwards are
            ``learning_without_forgetting``, ``ewc`` and ``online_ewc`` (the last two from the old data).
        old_data: The old model's data (by source, if there are several), to measure what changes for its tasks; read
            from the paths in its recipe if left out.
        start: ``closest``: each new head is trained from the head of the old task that it resembles most, and from
            fresh values; the start with the lower validation loss is kept, for each task on its own (a third training,
            where tasks differ in which one that is). ``fresh``: from fresh values alone.
        like: Without any label: an old task whose head, codec and own parameters the new one takes over as they are.
        training: Settings, see :class:`~polytask.training.settings.Settings`.
        split: How rows are divided, see :class:`~polytask.recipe.SplitSpec`.
        source: Which of the old model's sources the rows are like; may be left out if there is only one.
        seed: Of parameters, batches and split.
        resume: Go on in a run folder that exists.
        progress: Told about each step.

    Raises:
        PolytaskError: If the model cannot be extended, the columns are not those of its inputs, or settings contradict
            each other.
    """
    given = adapters if isinstance(adapters, Mapping) else {} if adapters else None
    recipe = Recipe(tasks=targets, split=dict(split or {}), training=dict(training or {}), seed=seed)
    asked: dict[str, Any] = {
        "extends": str(run) if not isinstance(run, Bundle) else "bundle",
        "recipe": recipe.plain(),
        "options": {"unfreeze": unfreeze, "remedies": list(remedies), "start": start, "like": like, "source": source,
                    "adapters": given if given is None else dict(given)},
    }  # fmt: skip
    check_asked(recipe, asked["options"], old_data)
    bundle = run if isinstance(run, Bundle) else load(run)
    folder = RunFolder(out) if out is not None else None
    if folder is not None:
        folder.check(resume=resume)
    work = _Extension(bundle, recipe, asked, _source(bundle, source), folder, progress or Silent(), given)
    try:
        if like is not None:
            return work.copied(like, data)
        if data is None:
            raise RecipeError("Which rows have the new labels? Give data, or `like` for a task without any label.")
        return work.trained(data, unfreeze, remedies, old_data, start, resume)
    finally:
        if folder is not None:
            folder.close()


@dataclass
class _Extension:
    """One extension of one bundle."""

    bundle: Bundle
    recipe: Recipe
    asked: dict[str, Any]
    source: str
    folder: RunFolder | None
    progress: Progress
    adapters: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        models = self.bundle.models
        if len(models) != 1 or not isinstance(models[0], Network):
            raise BundleError(f"Only a model of one network can be extended. {self._of_several()}")
        self.network: Network = models[0]
        check_new(self.network.spec, list(self.recipe.tasks))
        self.old = [task for task in self.bundle.tasks if task.name in self.network.tasks]
        self.names = frozenset(self.network.model.state_dict())

    def _of_several(self) -> str:
        """What the bundle has in place of one network."""
        own = ", ".join(self.bundle.answers)
        if own and all(isinstance(model, Network) for model in self.bundle.models):
            return (
                f"This one has {len(self.bundle.models)}, because {own} stopped by a patience of its own, at another "
                "epoch than the rest: train it anew without that patience."
            )
        return f"This bundle has: {', '.join(model.kind for model in self.bundle.models)}."

    def copied(self, like: str, data: Any) -> Run:
        """The new tasks as copies of an old one: no label, no training."""
        tasks = copied_tasks(self.recipe, self.bundle.task(like), data)
        spec, model = copied_heads(self.network, tasks, like)
        start = {task.name: f"taken over from {like}" for task in tasks}
        record = ExtensionRecord(origin=self.asked["extends"], is_frozen=True, start=start)
        if self.folder is not None:
            self.folder.open(without_nan(self.asked), resume=False)
        results = {task.name: result_of(task, {}, None) for task in tasks}
        return self._finish(self._grown(spec, model, tasks), tasks, results, record, None, [])

    def trained(
        self, data: Any, unfreeze: bool, remedies: Sequence[Any], old_data: Any, start: str, resume: bool
    ) -> Run:
        """New heads, trained on the rows that have their labels."""
        dataset, notes = known_data(self.bundle, self.network, self.source, data, self.recipe)
        check_labels(dataset, self.recipe, [task.name for task in self.old])
        prepared = prepare_sets(self.recipe, [dataset])
        tasks = prepared.tasks
        prepared.notes += notes
        before = old_rows(self.bundle, self.old, self._recipes(), old_data) if unfreeze else OldRows()
        if unfreeze:
            self.asked["old_data"] = before.data
        if self.folder is not None:
            self.folder.open(without_nan({**self.asked, "data": prepared.data}), resume=resume)
            if self.folder.is_finished:
                path = self.folder.path
                return Run(load(path), RunRecord.load(self.folder.record_path), self.folder.history(), path)
        settings = Settings.from_options({**self.recipe.training, "seed": self.recipe.seed})
        check_stop_rule(settings, [task.name for task in tasks])
        controls = controls_of(self.recipe)
        how = ExtensionSettings(settings, start, unfreeze, remedies, self.adapters, controls)
        old = OldTasks(self.old, before.kept, before.train)
        state = torch.get_rng_state()
        torch.manual_seed(self.recipe.seed)
        try:
            heads = NewHeads(self.network, old, prepared, how, Listeners(self.folder, self.progress))
            spec, model, stages, record = heads.train(self.asked["extends"])
        finally:
            torch.set_rng_state(state)
        validated = {task.name for task in tasks if n_labels(task, prepared.validation)}
        prepared.notes += [*before.notes, *stages.skips.notes()]
        prepared.notes += plateau_notes(settings, controls, validated)
        prepared.notes += step_notes(stages.done, settings)
        counts = {task.name: n_labels(task, prepared.test or prepared.validation) for task in tasks}
        prepared.notes += [
            f"Task {name!r} is tested on {count} labels only: its metrics may be far from those on other rows."
            for name, count in counts.items()
            if 0 < count < _FEW
        ]
        held_out = prepared.test or prepared.validation
        metrics = evaluate(model, tasks, held_out) if held_out else {}
        results = {task.name: result_of(task, metrics, prepared) for task in tasks}
        return self._finish(self._grown(spec, model, tasks), tasks, results, record, stages, prepared.notes)

    def _recipes(self) -> list[Recipe | None]:
        """How the old model was trained, and then extended, as far as that is known."""
        return [Recipe(**origin["recipe"]) if "recipe" in origin else None for origin in provenances(self.bundle)]

    def _grown(self, spec: ModelSpec, model: MultiTaskModel, tasks: Sequence[Task]) -> Network:
        """The network as the bundle holds it: old tasks are run without new ones, so that no bit of theirs changes.

        With hard sharing they are run together, because the trunk does not know for which tasks it runs.
        """
        if spec.sharing == "hard" and not self.network.groups:
            return Network(spec, model.eval())
        before = self.network.groups or (self.network.tasks,)
        return Network(spec, model.eval(), groups=(*before, tuple(task.name for task in tasks)))

    def _finish(
        self,
        network: Network,
        tasks: Sequence[Task],
        results: Mapping[str, TaskResult],
        extension: ExtensionRecord,
        stages: Stages | None,
        notes: Sequence[str],
    ) -> Run:
        machine = environment()
        provenance = {
            **self.asked,
            "recipe_hash": self.recipe.hash(),
            "environment": machine,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": {} if stages is None else stages.prepared.data,
            "of": self.bundle.provenance,
        }
        # Of tasks that are not measured now, the metrics of before are those of another network.
        known = self.bundle.metrics if extension.is_frozen else {}
        metrics = {**known, **extension.after, **{name: result.metrics for name, result in results.items()}}
        made = replace(
            self.bundle,
            tasks=[*self.bundle.tasks, *tasks],
            models=[network],
            metrics=metrics,
            provenance=provenance,
        )
        counts = network.model.sharing.count_parameters()
        record = RunRecord(
            tasks=results,
            recipe=self.asked,
            recipe_hash=self.recipe.hash(),
            data={} if stages is None else stages.prepared.data,
            epochs=0 if stages is None else stages.epochs,
            best_epoch=None if stages is None else stages.best,
            seconds=0.0 if stages is None else round(stages.seconds, 3),
            parameters={
                **counts,
                "heads": sum(p.numel() for p in network.model.heads.parameters()),
                "new": sum(p.numel() for p in own_parameters(network.model, self.names)),
            },
            sampling="" if stages is None else stages.last.feed.plan.describe(),
            notes=tuple(notes),
            environment=machine,
            extension=extension,
        )
        if self.folder is not None:
            made.save(self.folder.bundle_path)
            write_json(self.folder.record_path, record.to_json())
            self.folder.drop_checkpoint()
        history = [] if stages is None else stages.history if self.folder is None else self.folder.history()
        return Run(made, record, history, self.folder.path if self.folder else None)


def _source(bundle: Bundle, name: str | None) -> str:
    if name is not None and name not in bundle.sources:
        raise UnknownNameError("source", name, bundle.sources)
    if name is None and len(bundle.sources) != 1:
        raise RecipeError(
            f"This model reads several sources, {', '.join(bundle.sources)}: say by `source` (--source) which of them "
            "the new rows are like."
        )
    return name or bundle.sources[0]
