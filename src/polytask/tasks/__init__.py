"""Task kinds, a file each: codec, masked loss, metrics with their direction, predictions in the user's units."""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["Metric", "Prediction", "Task", "registry", "task_from_options"]

registry = Registry(
    role="task",
    packages=("polytask.tasks",),
    base="polytask.tasks.task:Task",
    besides=frozenset({"task", "prediction", "infer", "members"}),
    noun="kind of task",
)


def __getattr__(name: str) -> Any:
    if name in ("Metric", "Prediction", "Task", "task_from_options"):
        from polytask.tasks import task

        return getattr(task, name)
    return registry.by_class_name(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *registry.class_names()])
