"""Rules that parameters keep exactly: the nearest allowed ones are taken after each step."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from polytask.errors import RecipeError, UnknownNameError
from polytask.models.model import MultiTaskModel
from polytask.training.constraint_spec import WeightRule

__all__ = ["Projection"]


class Projection:
    """Projected gradient descent: signs and ties of parameters, by the nearest point in Euclidean distance.

    Args:
        model: The network; the head of a task is named as the task is, ``heads.price.weight``.
        rules: The rules.

    Raises:
        UnknownNameError: If a pattern names no parameter.
        RecipeError: If tied parameters differ in number or shape.

    Example:
        >>> model = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Linear(2, 1)})
        >>> Projection(model, [WeightRule(("*.weight",), tied=False, sign="nonnegative")])()
        >>> bool((model["a"].weight >= 0).all())
        True

    Note:
        With momentum or Adam the point after the step is projected, not the moments.
    """

    def __init__(self, model: nn.Module, rules: Sequence[WeightRule]):
        names = {_readable(name, model): p for name, p in model.named_parameters()}
        self.clamped: list[tuple[nn.Parameter, bool]] = []
        self.tied: list[list[nn.Parameter]] = []
        for rule in rules:
            found = [_named(pattern, names) for pattern in rule.weights]
            if rule.tied:
                self.tied = _joined([*self.tied, *_ties(rule, found)])
            else:
                self.clamped += [(p, rule.sign == "nonnegative") for group in found for p in group.values()]
        # What is tied to a weight with a sign has it too: the mean is clamped, and every one of them is the mean.
        for tied in self.tied:
            members = {id(p) for p in tied}
            signs = {is_nonnegative for p, is_nonnegative in self.clamped if id(p) in members}
            self.clamped += [(p, sign) for sign in signs for p in tied]

    @torch.no_grad()
    def __call__(self) -> None:
        """Project."""
        for first, *others in self.tied:
            if not all(torch.equal(first, other) for other in others):  # equal ones stay, to the last bit
                mean = torch.stack([first, *others]).mean(dim=0)
                for parameter in (first, *others):
                    parameter.copy_(mean)
        for parameter, is_nonnegative in self.clamped:
            parameter.clamp_(min=0.0) if is_nonnegative else parameter.clamp_(max=0.0)


def _readable(name: str, model: nn.Module) -> str:
    """A parameter's name, with the task's own name for its head: ``heads.price.weight``."""
    if isinstance(model, MultiTaskModel) and name.startswith("heads.by_task."):
        key, _, rest = name.removeprefix("heads.by_task.").partition(".")
        return f"heads.{list(model.heads.by_task)[int(key[1:])]}.{rest}"
    return name


def _named(pattern: str, names: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    found = {name: parameter for name, parameter in names.items() if fnmatchcase(name, pattern)}
    if not found:
        raise UnknownNameError("parameter that fits the pattern", pattern, names)
    return found


def _joined(ties: Sequence[list[nn.Parameter]]) -> list[list[nn.Parameter]]:
    """Ties that have a parameter in common are one."""
    found: list[list[nn.Parameter]] = []
    for tie in ties:
        meet = [known for known in found if {id(p) for p in known} & {id(p) for p in tie}]
        found = [known for known in found if not any(known is one for one in meet)]
        whole = {id(p): p for group in (*meet, tie) for p in group}
        found.append(list(whole.values()))
    return found


def _ties(rule: WeightRule, found: Sequence[dict[str, nn.Parameter]]) -> list[list[nn.Parameter]]:
    counts = [len(group) for group in found]
    if len(set(counts)) > 1:
        named = ", ".join(f"{pattern} ({n})" for pattern, n in zip(rule.weights, counts, strict=True))
        raise RecipeError(f"Tied weights need as many parameters for each pattern, got {named}.")
    ties = []
    for names in zip(*found, strict=True):
        members = [group[name] for group, name in zip(found, names, strict=True)]
        if len({m.shape for m in members}) > 1:
            shapes = ", ".join(f"{name} {tuple(m.shape)}" for name, m in zip(names, members, strict=True))
            raise RecipeError(f"Tied weights need one shape, got {shapes}.")
        ties.append(members)
    return ties
