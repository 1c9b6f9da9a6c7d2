"""One training from prepared data to a bundle."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from polytask.bundle import Bundle, Network
from polytask.data.batch import Source
from polytask.models.building import build_model
from polytask.models.model import MultiTaskModel
from polytask.models.spec import ModelSpec
from polytask.records import ConstraintResult, SequenceResult
from polytask.tasks.task import Task
from polytask.training.assembly import check_constraints, constraints_of, training_of
from polytask.training.building import make_schedule, network_of
from polytask.training.constraints import Constraints
from polytask.training.evaluation import evaluate, mean_losses
from polytask.training.feasibility import margin_notes, results_of
from polytask.training.listeners import Listeners, Watch
from polytask.training.own_ways import plateau_notes
from polytask.training.plan import Plan
from polytask.training.preparation import Prepared
from polytask.training.progress import Progress, Silent
from polytask.training.remedy import Remedy
from polytask.training.run_folder import RunFolder
from polytask.training.schedule import Schedule, StageResult
from polytask.training.stages import Stages
from polytask.training.transfer import sequence_of

__all__ = ["Fitted", "Plan", "check_constraints", "fit", "stages_of", "training_of"]


@dataclass
class Fitted:
    """A trained model and how it came about.

    Args:
        bundle: The model, its tasks and transforms.
        model: The network itself.
        history: A dict per epoch.
        epochs: Epochs trained.
        best_epoch: The epoch that was kept.
        seconds: Time of the training.
        sampling: An epoch in words.
        parameters: Counts ``shared``, ``private``, ``heads``.
        metrics: Test metrics by task; validation metrics if there are no test rows.
        notes: Fallbacks and the like.
        sequence: What the stages of the schedule left, if there were several.
        validation: Mean validation losses of the kept epoch by task.
        constraints: What came of the constraints.
        stages: Results of the schedule's stages, in order.
    """

    bundle: Bundle
    model: MultiTaskModel
    history: list[dict[str, Any]]
    epochs: int
    best_epoch: int | None
    seconds: float
    sampling: str
    parameters: dict[str, int]
    metrics: dict[str, dict[str, float]]
    notes: list[str] = field(default_factory=list)
    sequence: SequenceResult | None = None
    validation: dict[str, float] = field(default_factory=dict)
    constraints: dict[str, ConstraintResult] = field(default_factory=dict)
    stages: Sequence[StageResult] = ()

    def mean_losses(self, tasks: Sequence[Task], sources: Mapping[str, Source]) -> dict[str, float]:
        """Mean loss of each task by the network that answers it; tasks without a label are left out."""
        found: dict[str, float] = {}
        for network in self.bundle.networks:
            found |= mean_losses(network.model, [task for task in tasks if task.name in network.tasks], sources)
        return {task.name: found[task.name] for task in tasks if task.name in found}


def fit(
    prepared: Prepared,
    plan: Plan,
    *,
    folder: RunFolder | None = None,
    module: nn.Module | None = None,
    progress: Progress | None = None,
    title: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """Train one network on prepared data; goes on from the folder's checkpoint if there is one.

    Args:
        prepared: The data.
        plan: What to train.
        folder: Where history and checkpoints go.
        module: The user's network, for the ``module`` encoder.
        progress: Told about each step.
        title: What the progress bar calls it; the schedule's name if ``None``.
        provenance: Stored in the bundle.
        watch: Called before each step with the training and the step's batches; it may look, and change nothing.

    Raises:
        PolytaskError: If a name or an option is not known, or the training cannot go on.
    """
    settings = plan.settings
    # The generator of the whole process is seeded, and put back afterwards: parameters and dropout are drawn from it.
    before = torch.get_rng_state()
    torch.manual_seed(settings.seed)
    try:
        spec, model = network_of(prepared, plan, module)
        # What is wrong with constraints is said before anything is trained.
        constraints = constraints_of(plan, prepared, model)
        schedule, kept = make_schedule(plan.schedule, plan.schedule_options)
        stages = stages_of(model, prepared, plan, schedule, kept, Listeners(folder, progress or Silent(), watch))
        stages.run(title or plan.schedule)
    finally:
        torch.set_rng_state(before)
    history = stages.history if folder is None else folder.history()
    fitted = _fitted(prepared, plan, stages, spec, module, history, provenance or {})
    fitted.notes = [*_notes(stages, plan, prepared, constraints, history), *fitted.notes]
    last = history[stages.epochs - 1 if stages.best is None else stages.best] if history else {}
    fitted.validation = dict(last.get("validation", {}))
    if constraints.bounds:
        fitted.constraints = results_of(constraints, model, prepared, last, history)
    return fitted


def _fitted(
    prepared: Prepared,
    plan: Plan,
    stages: Stages,
    spec: ModelSpec,
    module: nn.Module | None,
    history: list[dict[str, Any]],
    provenance: Mapping[str, Any],
) -> Fitted:
    """The trained networks, tested and in a bundle."""
    model, held_out = stages.model, prepared.test or prepared.validation
    metrics = evaluate(model, prepared.tasks, held_out) if held_out else {}
    networks, answers = [Network(spec, model.eval())], dict[str, list[int]]()
    for network, names in _at_own_best(spec, model, stages, module):
        answers |= {task: [len(networks)] for task in names}
        networks.append(network)
        if held_out:
            metrics |= evaluate(network.model, [t for t in prepared.tasks if t.name in names], held_out)
    counts = model.sharing.count_parameters()
    own = {task: stages.last.own.best[task] + 1 for task in answers}
    notes = [f"Task {task!r} is answered by the network of its own best epoch, {n}." for task, n in own.items()]
    if stages.resumed:
        notes.append("The training was interrupted and went on from its checkpoint.")
    return Fitted(
        bundle=Bundle(
            prepared.tasks, networks, prepared.transforms, metrics, provenance, answers, prepared.texts, prepared.files
        ),
        model=model,
        history=history,
        epochs=stages.epochs,
        best_epoch=stages.best,
        seconds=stages.seconds,
        sampling=stages.last.feed.plan.describe(),
        parameters={**counts, "heads": sum(p.numel() for p in model.heads.parameters())},
        metrics=metrics,
        notes=notes,
        sequence=sequence_of(plan.schedule, stages) if stages.done[0].stage.name else None,
        stages=tuple(stages.done),
    )


def _notes(
    stages: Stages, plan: Plan, prepared: Prepared, constraints: Constraints, history: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What a reader should know about the training: fallbacks, batches left out, what nothing trained or kept."""
    fallbacks = sum(line["fallbacks"] for line in history)
    notes = [f"The balancer's solver fell back in {fallbacks} steps."] if fallbacks else []
    if pieces := [line for line in history if "pieces" in line]:
        notes.append(
            f"Memory ran out in epoch {pieces[0]['epoch'] + 1}: from then on each batch went through the network in "
            f"pieces, {pieces[-1]['pieces']} at the end (training.accumulate)."
        )
    notes += stages.skips.notes({bound.name: bound.task.name for bound in constraints.bounds})
    trained = {task for result in stages.done for task in result.stage.tasks}
    if untrained := [task.name for task in prepared.tasks if task.name not in trained]:
        notes.append(f"No stage of the schedule trains {', '.join(untrained)}: the answers are an untrained network's.")
    bounded = {bound.task.name for bound in constraints.bounds}
    if idle := [task.name for task in prepared.tasks if task.weight == 0.0 and task.name not in bounded]:
        notes.append(
            f"Weight 0 and no constraint: nothing was learned for {', '.join(idle)}. Give a weight above 0, or a "
            "constraint."
        )
    notes += [
        f"The last stage does not train {bound.task.name!r}, so that nothing kept {bound.name} in it."
        for bound in constraints.bounds
        if bound.task.name not in stages.done[-1].stage.tasks
    ]
    notes += [
        f"Task {task!r} has a patience of its own, and the last stage does not train it: it is answered by the network "
        "as that stage left it, not by that of its own best epoch."
        for task, control in plan.controls.items()
        if control.patience is not None and task in trained - set(stages.done[-1].stage.tasks)
    ]
    notes += margin_notes(constraints.bounds, history, "validation" if prepared.validation else "training")
    validated = {task for source in prepared.validation.values() for task in source.tasks if source.coverage(task)}
    return notes + plateau_notes(plan.settings, plan.controls, validated)


def _at_own_best(
    spec: ModelSpec, model: MultiTaskModel, stages: Stages, module: nn.Module | None
) -> list[tuple[Network, list[str]]]:
    """For tasks with a patience of their own, the network of their best epoch, where it is not that of all tasks."""
    found = []
    own, kept = stages.last.own, stages.last.at.best
    for epoch, state in own.states.items():
        if epoch != kept:
            network = build_model(spec, copy.deepcopy(module))
            network.load_state_dict(state)
            network.to(next(model.parameters()).device)
            names = [task for task in own.patient if own.best.get(task) == epoch]
            found.append((Network(spec, network.eval()), names))
    return found


def stages_of(
    model: MultiTaskModel,
    prepared: Prepared,
    plan: Plan,
    schedule: Schedule,
    remedies: Sequence[Remedy],
    listeners: Listeners | None = None,
    known: Sequence[Task] = (),
) -> Stages:
    """The stages of a schedule over a network, ready to run; ``known`` are tasks that the network learned before."""
    make = partial(training_of, model, plan)
    return Stages(model, prepared, schedule, remedies, plan.settings, make, listeners or Listeners(), known)
