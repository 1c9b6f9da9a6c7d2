"""A trained network with further tasks on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from polytask.data.batch import Source
from polytask.errors import RecipeError, TrainingError, UnknownNameError
from polytask.models.building import build_model
from polytask.models.model import MultiTaskModel
from polytask.models.spec import ModelSpec
from polytask.shapes import Tensor
from polytask.tasks.task import Task
from polytask.training.evaluation import outputs_of

__all__ = ["Answers", "check_new", "grown", "own_parameters", "with_adapters"]


def grown(
    spec: ModelSpec,
    model: MultiTaskModel,
    tasks: Sequence[Task],
    module: nn.Module | None = None,
    adapters: Mapping[str, Any] | None = None,
) -> tuple[ModelSpec, MultiTaskModel]:
    """The network with heads (and whatever else a task has of its own) for further tasks, drawn anew.

    Args:
        spec: How the network was built.
        model: The network.
        tasks: The further tasks, fitted.
        module: The user's network, if the encoder was one.
        adapters: Options of adapters of the further tasks' own in the trunk; none if ``None``.

    Raises:
        RecipeError: If a task has the name of one that there is, or the sharing's parameters depend on the number of
            tasks, so that the old ones cannot stay as they are.
    """
    check_new(spec, [task.name for task in tasks])
    changed = spec if adapters is None else with_adapters(spec, [task.name for task in tasks], adapters)
    larger = replace(
        changed,
        n_outputs={**spec.n_outputs, **{task.name: task.n_outputs for task in tasks}},
        links={**spec.links, **{task.name: task.link for task in tasks}},
        element_tasks=(*spec.element_tasks, *(task.name for task in tasks if task.of_elements)),
        pixel_tasks=(*spec.pixel_tasks, *(task.name for task in tasks if task.of_pixels)),
    )
    made = build_model(larger, module)
    known, held = model.state_dict(), made.state_dict()
    unlike = [name for name, value in known.items() if name not in held or held[name].shape != value.shape]
    if unlike:
        raise RecipeError(
            f"The sharing {spec.sharing!r} cannot take a further task and leave the old ones as they are: its "
            f"parameters {', '.join(unlike[:3])} depend on the number of tasks. hard, mmoe, residual_adapters and lora "
            "can; or train all tasks together with polytask fit."
        )
    made.load_state_dict({**held, **known})
    return larger, made


def check_new(spec: ModelSpec, tasks: Sequence[str]) -> None:
    """Raise if a further task has the name of one that there is.

    Raises:
        RecipeError: Naming it, and what to do.
    """
    for name in tasks:
        if name in spec.n_outputs:
            raise RecipeError(
                f"The model has a task {name!r} already: rename the column of the new labels, or, in Python, name the "
                f"new task otherwise and give it the column as its target, {{'NAME': {{'target': {name!r}}}}}."
            )


def with_adapters(spec: ModelSpec, tasks: Sequence[str], options: Mapping[str, Any]) -> ModelSpec:
    """The specification by which these further tasks have residual adapters in the trunk, and the old ones do not.

    Args:
        spec: How the network was built: with hard sharing below the heads, or grown with adapters before.
        tasks: The further tasks.
        options: Of the adapters: ``bottleneck``.

    Raises:
        RecipeError: If the sharing is another one, or the adapters that are there already are of another width.
        UnknownNameError: If there is no such option.
    """
    if unknown := sorted(set(options) - {"bottleneck"}):
        raise UnknownNameError("option of adapters", unknown[0], ["bottleneck"])
    held = dict(spec.sharing_options)
    if spec.sharing == "residual_adapters":
        if held.get("bottleneck", options.get("bottleneck")) != options.get("bottleneck", held.get("bottleneck")):
            raise RecipeError(
                f"The adapters of this model have the bottleneck {held['bottleneck']}, and so have further ones; "
                f"take the bottleneck {options['bottleneck']} out."
            )
        # Where all tasks have adapters, a further one has them too.
        adapted = [*held["adapted"], *tasks] if held.get("adapted") else []
        return replace(spec, sharing_options={**held, **({"adapted": adapted} if adapted else {})})
    if spec.sharing != "hard" or held.get("ratio", 1.0) != 1.0:
        raise RecipeError(
            f"Adapters are for a network whose tasks share everything below the heads; with the sharing "
            f"{spec.sharing!r} of this one, options {held}, a further task has parameters of its own there. "
            "Leave the adapters out."
        )
    return replace(spec, sharing="residual_adapters", sharing_options={**options, "adapted": list(tasks)})


def own_parameters(model: MultiTaskModel, before: Collection[str]) -> list[nn.Parameter]:
    """The parameters that the network has only since it has grown; ``before`` are the names of those that it had."""
    return [parameter for name, parameter in model.named_parameters() if name not in before]


class Answers:
    """Outputs of a network on some rows, to compare with its outputs later.

    Args:
        model: The network.
        sources: The rows.
        tasks: The tasks that are watched.
    """

    def __init__(self, model: MultiTaskModel, sources: Mapping[str, Source], tasks: Sequence[str]):
        self.sources, self.tasks = sources, list(tasks)
        self.n_rows = sum(len(source) for source in sources.values())
        self.before = self._of(model)

    def _of(self, model: MultiTaskModel) -> dict[str, dict[str, Tensor]]:
        return {name: outputs_of(model, source, self.tasks)[0] for name, source in self.sources.items()}

    def change(self, model: MultiTaskModel) -> dict[str, float]:
        """Largest absolute change of any output of each task; exactly 0 if all bits are equal."""
        after = self._of(model)
        found = dict.fromkeys(self.tasks, 0.0)
        for source, outputs in self.before.items():
            for task, out in outputs.items():
                if not torch.equal(out, after[source][task]):
                    found[task] = max(found[task], (after[source][task] - out).abs().max().item())
        return found

    def check_equal(self, model: MultiTaskModel) -> None:
        """Raise if a single bit changed.

        Raises:
            TrainingError: Naming the tasks.
        """
        if changed := {task: value for task, value in self.change(model).items() if value}:
            raise TrainingError(
                f"The frozen tasks {', '.join(changed)} changed their answers, by at most {max(changed.values()):.3g}; "
                "this is a fault of polytask, and nothing was saved."
            )
