"""What a run must keep, as plain data: bounds on losses and metrics, and rules for parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import ValidationError

from polytask.errors import RecipeError
from polytask.options import adapter_of, check_options, in_words

__all__ = ["ALL", "ConstraintSpec", "WeightRule", "read_constraint"]

ALL = "all"
"""In place of a task's name: every task has the constraint."""

_FORMS = (
    '"A.loss<=0.3", "A.recall>=0.95", "all.loss<=single+1%", "A.positive_rate by sex within 0.02", '
    "or a mapping such as {task: A, metric: loss, at_most: 0.3}"
)
_BOUND = re.compile(r"^\s*(?P<task>.+)\.(?P<metric>\w+)\s*(?P<side><=|>=)\s*(?P<bound>\S.*?)\s*$")
_GROUPS = re.compile(r"^\s*(?P<task>.+)\.(?P<metric>\w+)\s+by\s+(?P<by>\S.*?)\s+within\s+(?P<within>\S+)\s*$")
_SINGLE = re.compile(r"^single\s*(?:\+\s*(?P<by>\S+))?$")


@dataclass(frozen=True)
class ConstraintSpec:
    """A bound on a loss, a rate or another metric of a task.

    Args:
        task: The task's name, or ``all``.
        metric: ``loss``; a rate of a binary task (``positive_rate``, ``recall``, ``specificity``,
            ``false_positive_rate``, ``false_negative_rate``); or any metric of the task, whose gradient is then that of
            the task's loss.
        at_most: Upper bound.
        at_least: Lower bound.
        by: Column of groups, to compare the metric between them.
        between: The groups, if not all of them are compared.
        within: Largest difference of the metric between two groups.
        worse_than_single_by: The loss may exceed that of a model of the task alone by this share: ``1%`` or 0.01.
        margin: How much better than the bound the training aims to be; ``auto``: 1.64 standard errors of the measured
            value, so that the bound holds for about 95 % of new samples of the same size.
        watch: What the multiplier follows: ``train`` batches, or these corrected by how much the ``validation`` rows
            differed from them in the last epoch. ``None``: ``validation`` for comparisons with single models, else
            ``train``. A metric that is no mean over rows is always followed on validation rows, epoch by epoch.

    Example:
        >>> read_constraint("ill.recall >= 0.95")
        ConstraintSpec(task='ill', metric='recall', at_least=0.95)
    """

    task: str
    metric: str = "loss"
    at_most: float | None = None
    at_least: float | None = None
    by: str | None = None
    between: tuple[Any, ...] = ()
    within: float | None = None
    worse_than_single_by: float | str | None = None
    margin: float | Literal["auto"] = 0.0
    watch: Literal["train", "validation"] | None = None

    def __post_init__(self) -> None:
        given = [n for n in ("at_most", "at_least", "within", "worse_than_single_by") if getattr(self, n) is not None]
        who = f"The constraint on {self.task}.{self.metric}"
        if len(given) != 1:
            raise RecipeError(
                f"{who} needs exactly one of at_most, at_least, within and worse_than_single_by; "
                f"got {', '.join(given) or 'none'}."
            )
        if (self.by is None) != (self.within is None):
            raise RecipeError(f"{who}: `by` (a column of groups) and `within` (the largest difference) go together.")
        if self.between and (self.by is None or len(self.between) < 2):
            raise RecipeError(f"{who}: `between` takes two groups or more of the column that `by` names.")
        if self.worse_than_single_by is not None and self.metric != "loss":
            raise RecipeError(f"{who}: a comparison with the single model is one of losses; leave `metric` out.")
        if self.within is not None and not 0.0 <= self.within < math.inf:
            raise RecipeError(f"{who}: `within` is a number of at least 0, got {self.within!r}.")
        if self.margin != "auto" and not 0.0 <= self.margin < math.inf:
            raise RecipeError(f"{who}: `margin` is a number of at least 0, or auto; got {self.margin!r}.")
        self.share  # noqa: B018 - raises if it cannot be read

    @property
    def share(self) -> float:
        """The share by which a loss may exceed the single model's."""
        text = self.worse_than_single_by
        if text is None:
            return 0.0
        try:
            share = float(text[:-1]) / 100 if isinstance(text, str) and text.endswith("%") else float(text)
        except ValueError:
            share = math.nan
        if not 0.0 <= share < math.inf:
            raise RecipeError(f"worse_than_single_by is a share such as 1% or 0.01, got {text!r}.")
        return share

    def __repr__(self) -> str:
        return f"ConstraintSpec({', '.join(f'{k}={v!r}' for k, v in self.plain().items())})"

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it, defaults left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


@dataclass(frozen=True)
class WeightRule:
    """A rule that the network's parameters keep exactly, by projection after each step.

    Args:
        weights: Names of parameters as patterns (``*`` for anything), such as ``heads.A.*``.
        sign: ``nonnegative`` or ``nonpositive``: every such weight has this sign.
        tied: The parameters that the patterns name, one of each in turn, are equal: the first pattern's first to the
            second's first, and so on.
    """

    weights: tuple[str, ...]
    sign: Literal["nonnegative", "nonpositive"] | None = None
    tied: bool = False

    def __post_init__(self) -> None:
        who = f"The constraint on the weights {', '.join(self.weights)}"
        if (self.sign is None) != self.tied:
            raise RecipeError(f"{who} needs one of `sign: nonnegative`, `sign: nonpositive` and `tied: true`.")
        if self.tied and len(self.weights) < 2:
            raise RecipeError(f"{who}: tied weights need two patterns or more.")

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it, defaults left out."""
        rule: dict[str, Any] = {"tied": True} if self.tied else {"sign": self.sign}
        return {"weights": list(self.weights), **rule}


def read_constraint(given: Any) -> ConstraintSpec | WeightRule:
    """A constraint from a recipe: a text or a mapping.

    Raises:
        RecipeError: If it cannot be read; says which forms there are.

    Example:
        >>> read_constraint("all.loss <= single + 1%").share
        0.01
        >>> read_constraint("ill.positive_rate by sex within 0.02")
        ConstraintSpec(task='ill', metric='positive_rate', by='sex', within=0.02)
    """
    if isinstance(given, ConstraintSpec | WeightRule):
        return given
    options = _from_text(given) if isinstance(given, str) else given
    if not isinstance(options, Mapping):
        raise RecipeError(f"A constraint is one of {_FORMS}; got {given!r}.")
    options = dict(options)
    kind: type[ConstraintSpec] | type[WeightRule] = ConstraintSpec
    if "weights" in options:
        kind = WeightRule
        options["weights"] = [options["weights"]] if isinstance(options["weights"], str) else options["weights"]
    elif "task" not in options:
        raise RecipeError(f"A constraint names a `task` (or `all`), or `weights`; got {given!r}.")
    check_options("a constraint", kind, options)
    try:
        return adapter_of(kind).validate_python(options)
    except ValidationError as error:
        raise RecipeError(f"The constraint {given!r}: {in_words(error)}") from None


def _from_text(text: str) -> dict[str, Any]:
    if (found := _GROUPS.match(text)) is not None:
        return {**found.groupdict(), "within": _number(found["within"], text)}
    if (found := _BOUND.match(text)) is not None:
        named = {"task": found["task"], "metric": found["metric"]}
        if (single := _SINGLE.match(found["bound"])) is not None:
            if found["side"] != "<=":
                raise RecipeError(f"The constraint {text!r}: a loss is to be at most (<=) that of the single model.")
            return {**named, "worse_than_single_by": single["by"] or "0%"}
        return {**named, "at_most" if found["side"] == "<=" else "at_least": _number(found["bound"], text)}
    raise RecipeError(f"The constraint {text!r} cannot be read. A constraint is one of {_FORMS}.")


def _number(text: str, whole: str) -> float:
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RecipeError(f"The constraint {whole!r}: {text!r} is no number.")
    return value
