"""The constraints of a training: violations in each step, feasibility at each epoch's end."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from polytask.data.batch import Batch, Source
from polytask.models.model import MultiTaskModel
from polytask.shapes import Tensor, labelled
from polytask.tasks.members import mean_answer
from polytask.training.bounds import Bound, mean_and_error, stacked
from polytask.training.evaluation import outputs_of
from polytask.training.projections import Projection
from polytask.training.ranks import here
from polytask.training.rates import Terms, terms_of

__all__ = ["Constraints", "Measured"]

_SURE = 1.645
"""Standard errors of an ``auto`` margin: one in twenty samples of a normal value is further off on that side."""
_RESAMPLES = 100


@dataclass(frozen=True)
class Measured:
    """A constraint over whole sources.

    Args:
        value: What was measured; NaN where no label is there to measure by.
        error: Its standard error.
        violation: How far it is beyond the bound; not positive if it is kept.
    """

    value: float
    error: float
    violation: float


@dataclass
class Constraints:
    """Measures the constraints of a training in each step and at the end of each epoch.

    Args:
        bounds: The inequalities.
        links: What each task's outputs stand for, so that the members of an ensemble are averaged rightly.
        projection: Puts the parameters back to where their rules allow.
        margins: How much better than its bound each constraint aims to be now; moves if it is ``auto``.
        shifts: What is added to a batch's violation, so that it stands for the validation rows.
        latest: Violations of constraints that no batch can measure, as of the last epoch's end.
        sums: Sums and counts of the violations of the epoch so far.
    """

    bounds: Sequence[Bound]
    links: Mapping[str, str] = field(default_factory=dict)
    projection: Projection | None = None
    margins: list[float] = field(default_factory=list)
    shifts: list[float] = field(default_factory=list)
    latest: list[float] = field(default_factory=list)
    sums: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.margins = [0.0 if bound.margin == "auto" else float(bound.margin) for bound in self.bounds]
        self.shifts = [0.0] * len(self.bounds)
        self.latest = [math.nan] * len(self.bounds)
        self._forget_sums()
        self.project()

    def project(self) -> None:
        """Put the parameters back to where their rules allow."""
        if self.projection is not None:
            self.projection()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the constraints."""
        return tuple(bound.name for bound in self.bounds)

    def violations(
        self, seen: Sequence[tuple[Mapping[str, Tensor], Batch]], *, counts: bool = True
    ) -> dict[str, Tensor | None]:
        """The violation of each constraint in a step: its value is the measure's, its gradient the proxy's.

        Args:
            seen: Outputs and batch, for each batch of the step.
            counts: Whether the step is one of the epoch's sums.
        """
        found: dict[str, Tensor | None] = {}
        for i, (bound, (proxy, truth)) in enumerate(zip(self.bounds, self._values(seen), strict=True)):
            if proxy is None:
                found[bound.name] = None
                continue
            if counts and math.isfinite(truth):
                self.sums[i] = [self.sums[i][0] + truth, self.sums[i][1] + 1.0]
            found[bound.name] = proxy + (truth + self.margins[i] + self.shifts[i])
        return found

    def _values(self, seen: Sequence[tuple[Mapping[str, Tensor], Batch]]) -> list[tuple[Tensor | None, float]]:
        """For each bound a differentiable proxy whose value is zero, and the true violation.

        In data parallel the mean of the processes' proxies is that of the joined batch, and the truth is the batch's:
        a constraint that some process has labels of is there in all of them.
        """
        terms = [self._terms(i, bound, seen) for i, bound in enumerate(self.bounds)]
        ranks = here()
        sums = [[part.truth.numel(), part.truth.double().sum().item()] for parts in terms for part in parts]
        totals = iter(ranks.sum(torch.tensor(sums, dtype=torch.float64).reshape(-1, 2)).tolist())
        values: list[tuple[Tensor | None, float]] = []
        for i, (bound, parts) in enumerate(zip(self.bounds, terms, strict=True)):
            numbers = [next(totals) for _ in parts]
            if not parts or any(n == 0 for n, _ in numbers):
                values.append((None, math.nan))
                continue
            means = [ranks.size * (part.proxy.sum() / n) for part, (n, _) in zip(parts, numbers, strict=True)]
            if not bound.is_mean:
                values.append((means[0] - means[0].detach(), self.latest[i]))
                continue
            proxy = sum((p.factor * mean for p, mean in zip(bound.parts, means, strict=True)), torch.zeros(()))
            truth = sum(p.factor * (total / n) for p, (n, total) in zip(bound.parts, numbers, strict=True))
            values.append((bound.side * (proxy - proxy.detach()), bound.violation(truth)))
        return values

    def _terms(self, i: int, bound: Bound, seen: Sequence[tuple[Mapping[str, Tensor], Batch]]) -> list[Terms]:
        """The terms whose means are a bound's parts: of its measure, or of the loss if only an epoch can measure it.

        Empty if the batches have no such task, or nothing was measured yet.
        """
        if not bound.is_mean and math.isnan(self.latest[i]):
            return []
        pieces: list[list[Terms]] = []
        for outputs, batch in seen:
            if bound.task.name in outputs and bound.task.name in batch.observed:
                outs, targets, observed = self._rows(bound, outputs, batch)
                if batch.part == 0.0:  # rows that count for nothing
                    observed = torch.zeros_like(observed)
                if bound.is_mean:
                    pieces.append(bound.terms(outs, targets, observed, batch))
                else:
                    pieces.append([terms_of("loss", bound.task, outs, targets, observed)])
        return [stacked(part) for part in zip(*pieces, strict=True)]

    def _rows(self, bound: Bound, outputs: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        name = bound.task.name
        outs = outputs[name]
        if outs.ndim > 2 and not bound.task.of_elements:  # members of an ensemble, side by side in training
            outs = mean_answer(outs, self.links.get(name, "identity"))
        return outs, batch.targets[name], batch.observed[name]

    def measure(self, model: MultiTaskModel, sources: Mapping[str, Source], *, sure: bool = False) -> list[Measured]:
        """Every constraint over all rows of the sources, by the network's answers.

        Args:
            model: The network.
            sources: The rows.
            sure: Whether the standard error of measures that are no means is wanted too, by resampling rows.
        """
        tasks = list(dict.fromkeys(bound.task.name for bound in self.bounds))
        seen = []
        for source in sources.values():
            present = [task for task in tasks if task in source.tasks]
            if present:
                seen.append((source, *outputs_of(model, source, present)))
        return [self._measured(bound, seen, sure or bound.margin == "auto") for bound in self.bounds]

    def _measured(self, bound: Bound, seen: Sequence[tuple[Any, ...]], sure: bool) -> Measured:
        name = bound.task.name
        held = [(source, o[name], t[name], s[name]) for source, o, t, s in seen if name in o]
        if not held:
            return Measured(math.nan, math.nan, math.nan)
        if bound.is_mean:
            pieces = [bound.terms(outs, targets, observed, source) for source, outs, targets, observed in held]
            terms = [stacked(part).truth for part in zip(*pieces, strict=True)]
            value, error = mean_and_error(bound.parts, terms)
        else:
            joined = [torch.cat(parts) for parts in list(zip(*held, strict=True))[1:]]
            value = bound.task.evaluate(*joined)[bound.metric]
            error = _resampled_error(bound, joined) if sure else math.nan
        return Measured(value, error, bound.violation(value))

    def end_epoch(
        self, model: MultiTaskModel, train: Mapping[str, Source], validation: Mapping[str, Source]
    ) -> tuple[dict[str, dict[str, float | None]], float]:
        """Measure on the validation rows, or on the training rows if there are none.

        Returns:
            A line for the history, and how much the constraints are violated in all, margins included: 0 if feasible.
        """
        line: dict[str, dict[str, float | None]] = {}
        total = 0.0
        for i, (bound, now) in enumerate(zip(self.bounds, self.measure(model, validation or train), strict=True)):
            count = self.sums[i][1]
            seen = self.sums[i][0] / count if count else math.nan
            if bound.margin == "auto" and math.isfinite(now.error):
                self.margins[i] = _SURE * now.error
            if not bound.is_mean:
                self.latest[i] = now.violation
            elif bound.follows_validation and math.isfinite(now.violation) and count:
                self.shifts[i] = now.violation - seen
            line[bound.name] = {
                "value": _or_none(now.value),
                "violation": _or_none(now.violation),
                "margin": self.margins[i],
                "train_violation": _or_none(seen),
                **({"error": _or_none(now.error)} if bound.margin == "auto" else {}),
            }
            # What cannot be measured is no violation, but for outputs that are no numbers: their losses say so.
            total += max(now.violation + self.margins[i], 0.0) / bound.scale if math.isfinite(now.violation) else 0.0
        self._forget_sums()
        return line, total

    def _forget_sums(self) -> None:
        self.sums = [[0.0, 0.0] for _ in self.bounds]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {name: getattr(self, name) for name in ("margins", "shifts", "latest", "sums")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        for name in ("margins", "shifts", "latest", "sums"):
            setattr(self, name, copy.deepcopy(state[name]))  # the state may be taken back more than once


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _resampled_error(bound: Bound, joined: Sequence[Tensor]) -> float:
    """Standard deviation of the measure over bootstrap samples of the observed rows, always the same ones."""
    outputs, targets, observed = joined
    rows = torch.nonzero(labelled(observed)).squeeze(1)
    if len(rows) < 2:
        return math.inf
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(_RESAMPLES):
        chosen = rows[torch.randint(len(rows), (len(rows),), generator=generator)]
        values.append(bound.task.evaluate(outputs[chosen], targets[chosen], observed[chosen])[bound.metric])
    finite = torch.tensor([v for v in values if math.isfinite(v)], dtype=torch.float64)
    return finite.std().item() if len(finite) > 1 else math.inf
