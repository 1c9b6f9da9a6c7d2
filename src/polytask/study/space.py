"""What a search tries, assembled from the methods' own ranges; and a point of it as a plan of networks."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from polytask.balancing import registry as balancers
from polytask.data.samplers import registry as samplers
from polytask.errors import RecipeError
from polytask.models.sharing import registry as sharings
from polytask.ranges import PerTaskRange, Range, Ranges
from polytask.registry import Registry
from polytask.study.arm import FoldData
from polytask.training.building import network_of
from polytask.training.run import Plan

__all__ = ["FACTORS", "Chooser", "Configuration", "Space", "plan_with", "ranges_of", "searched_names"]

Configuration = Mapping[str, Any]
"""A point of the space: ``{"sharing": {"name", ...}, "balancer": {"name", ...}, "training": {...}}``."""

FACTORS: Ranges = {
    "learning_rate": Range(0.2, 5.0, log=True),
    "weight_decay": Range(0.05, 5.0, log=True),
    "batch_size": (0.5, 1.0, 2.0),
}
"""Of the optimiser: each setting of the plan times something."""
_MOST_TASKS = 16
"""With more tasks, no weight is searched for each of them, no balancer that needs a gradient of each, and no sharing
with a trunk for each."""


class Chooser(Protocol):
    """Names a value of a range; Optuna's trials are such."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of several."""


def ranges_of(registry: Registry, name: str) -> Ranges:
    """What is tried of a method's options: what it declares, or else its sharing ratio if it has one.

    Example:
        >>> str(ranges_of(sharings, "ple")["ratio"])
        '0 to 1'
    """
    cls = registry.load(name)
    declared: Ranges | None = cls.ranges
    if declared is not None:
        return declared
    return {"ratio": Range(0.0, 1.0)} if "ratio" in inspect.signature(cls).parameters else {}


def searched_names(registry: Registry) -> list[str]:
    """The methods that are tried: those that say what to try of them."""
    return [name for name in registry.names() if registry.load(name).ranges is not None]


class Space:
    """Sharing x its options x balancer x its options x task weights x sampler x optimiser.

    Args:
        fold: The fold, whose plan is the point where a search begins.
        sharing: Names to try.
        balancing: Names to try.

    Note:
        The plan's own sharing and balancer are always in it, with their options that are not searched. Another way of
        sharing that cannot be built for these tasks and this encoder is left out. Where there are more than 16 tasks,
        balancers that need a gradient of each are left out too, and ways of sharing that grow with every task by the
        parameters of the plan's own: a trial of them takes as long as many others. The weights are then one power of
        the numbers of labels. Samplers are tried where there are several sources.
    """

    def __init__(self, fold: FoldData, sharing: Iterable[str], balancing: Iterable[str]):
        self.fold, self.plan = fold, fold.plan
        self.tasks = [task.name for task in fold.tasks]
        self.left_out: dict[str, str] = {}
        own = fold.plan
        self.sharing = [own.sharing, *self._built(name for name in sharing if name != own.sharing)]
        self.balancers = [own.balancer, *(n for n in balancing if n != own.balancer and self._is_cheap(n))]
        self.samplers = self._drawing() if len(fold.prepared.train) > 1 else []
        self.counts = dict.fromkeys(self.tasks, 1)
        for source in fold.prepared.train.values():
            self.counts |= {name: max(int(source.observed[name].sum()), 1) for name in source.tasks}

    def choose(self, trial: Chooser) -> Configuration:
        """A point of the space, named value by value."""
        found: dict[str, Any] = {}
        for role, names, registry in self._roles():
            name = trial.suggest_categorical(role, names) if len(names) > 1 else names[0]
            options = {key: self._value(trial, f"{name}.{key}", r) for key, r in ranges_of(registry, name).items()}
            found[role] = {"name": name, **options}
        found["training"] = {key: self._value(trial, f"{key} x", r) for key, r in FACTORS.items()}
        return found

    def start(self) -> dict[str, Any]:
        """The values of the plan's own point, as far as the plan states them; weights are equal."""
        own: dict[str, Any] = {"sharing": self.plan.sharing, "balancer": self.plan.balancer}
        own |= {f"{key} x": 1.0 for key in FACTORS} | ({"sampler": self.plan.sampler} if self.samplers else {})
        for registry, name, given in (
            (sharings, self.plan.sharing, self.plan.sharing_options),
            (balancers, self.plan.balancer, self.plan.balancer_options),
            *((samplers, self.plan.sampler, self.plan.sampler_options) for _ in self.samplers[:1]),
        ):
            parameters = inspect.signature(registry.load(name)).parameters
            for key, r in ranges_of(registry, name).items():
                if isinstance(r, PerTaskRange):
                    own |= {f"{name}.{key} {task}": 1.0 for task in self.tasks} | {f"{name}.{key} power": 0.0}
                else:
                    own[f"{name}.{key}"] = given.get(key, parameters[key].default)
        return own

    def describe(self) -> dict[str, Any]:
        """For the record: what is tried of which method."""
        found: dict[str, Any] = {}
        for role, names, registry in self._roles():
            found[role] = {n: {key: str(r) for key, r in ranges_of(registry, n).items()} for n in names}
        found["optimiser, times the plan's"] = {key: str(r) for key, r in FACTORS.items()}
        return {**found, "left_out": self.left_out}

    def _roles(self) -> list[tuple[str, list[str], Registry]]:
        """What is chosen by name, from where; nothing is where there is one source for the sampler."""
        found = [("sharing", self.sharing, sharings), ("balancer", self.balancers, balancers)]
        return [*found, ("sampler", self.samplers, samplers)] if self.samplers else found

    def _drawing(self) -> list[str]:
        """The samplers, unless a step has a batch of every source, which leaves nothing to them."""
        if self.plan.settings.together:
            return []
        return list(dict.fromkeys([self.plan.sampler, *searched_names(samplers)]))

    def _value(self, trial: Chooser, name: str, of: Range | tuple[Any, ...]) -> Any:
        if isinstance(of, tuple):
            return trial.suggest_categorical(name, of)
        if isinstance(of, PerTaskRange):
            return self._weights(trial, name, of)
        if of.whole:
            return trial.suggest_int(name, int(of.low), int(of.high), log=of.log)
        return trial.suggest_float(name, of.low, of.high, log=of.log)

    def _weights(self, trial: Chooser, name: str, of: Range) -> dict[str, float]:
        if len(self.tasks) > _MOST_TASKS:
            power = trial.suggest_float(f"{name} power", -1.0, 1.0)
            drawn = np.array([self.counts[task] ** power for task in self.tasks])
        else:
            drawn = np.array(
                [trial.suggest_float(f"{name} {task}", of.low, of.high, log=of.log) for task in self.tasks]
            )
        return dict(zip(self.tasks, (drawn / drawn.mean()).tolist(), strict=True))

    def _is_cheap(self, name: str) -> bool:
        if len(self.tasks) <= _MOST_TASKS or "gramian" not in balancers.load(name).needs:
            return True
        self.left_out[name] = f"it needs a gradient of each of {len(self.tasks)} tasks in every step"
        return False

    def _built(self, names: Iterable[str]) -> list[str]:
        kept = []
        for name in names:
            plan = replace(self.plan, sharing=name, sharing_options={})
            try:
                network_of(self.fold.prepared, plan)
                if len(self.tasks) > _MOST_TASKS and self._growth(plan) >= self._parameters(self.plan, len(self.tasks)):
                    self.left_out[name] = f"it has a trunk for each of {len(self.tasks)} tasks"
                    continue
            except RecipeError as error:
                self.left_out[name] = str(error)
                continue
            kept.append(name)
        return kept

    def _growth(self, plan: Plan) -> float:
        """Parameters that a network gains below its heads with a further task."""
        n = len(self.tasks)
        return (self._parameters(plan, n) - self._parameters(plan, 2)) / (n - 2)

    def _parameters(self, plan: Plan, n_tasks: int) -> int:
        """Parameters below the heads of a network for the first tasks."""
        _, model = network_of(self.fold.prepared.only(self.tasks[:n_tasks]), plan)
        return sum(model.sharing.count_parameters().values())


def plan_with(plan: Plan, configuration: Configuration) -> Plan:
    """The plan with a point of the space put in.

    Args:
        plan: The plan of the fold that is trained on.
        configuration: The point.
    """
    settings = plan.settings
    for key, factor in configuration["training"].items():
        value = getattr(settings, key) * factor
        settings = replace(settings, **{key: max(round(value), 8) if key == "batch_size" else value})
    changed: dict[str, Any] = {"settings": settings}
    for role in ("sharing", "balancer", "sampler"):
        if role in configuration:
            options = dict(configuration[role])
            name = options.pop("name")
            kept = getattr(plan, f"{role}_options") if name == getattr(plan, role) else {}
            changed |= {role: name, f"{role}_options": {**kept, **options}}
    return replace(plan, **changed)
