"""What the page of a study shows, worked out from its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from polytask.records import Interval, StudyRecord, Verdict
from polytask.report import answer_figures, search_figures, training_figures, verdict_figures
from polytask.report.affinity import heat_map
from polytask.report.gallery import Gallery
from polytask.report.provenance import flat
from polytask.report.strips import scale_of
from polytask.report.words import by_reason, configuration, finite, listed, possible, sureness, unmet

__all__ = ["headline", "study_view"]

MARKS = {"helped": "▲", "hurt": "▼", "no evidence": "○"}
_RANK = {"helped": 0, "hurt": 1, "no evidence": 2}
_FEW = 12
"""More tasks than these have a picture of all gains, since no eye goes through so many rows."""
_PAIRS = 5
"""So many of the most and the least agreeing pairs have a row, if there are more than twice as many."""


def study_view(record: StudyRecord) -> dict[str, Any]:
    """Everything that the template of a study's page needs."""
    tasks = _in_order(record)
    arms = sorted(record.arms, key=lambda arm: _last(record.arms[arm].mean_rank))
    best = {task: _best(record, task) for task in tasks}
    gallery = _gallery(record, tasks, best)
    gates = {arm: _gates(found, tasks) for arm, found in record.gates.items() if found}
    recipe = record.settings.get("recipe")
    return {
        "record": record,
        "headline": headline(record),
        "unmet": unmet(record.settings.get("by_name") or (), record.left_out),
        "data_name": _data_name(record),
        "tasks": tasks,
        "numbers": {task: index for index, task in enumerate(tasks)},
        "verdicts": _verdicts(record, tasks),
        "choices": (choices := _choices(record, tasks)),
        "chosen_otherwise": [row["task"] for row in choices if {arm for arm, _ in row["chosen"]} - {row["use"]}],
        "together": _together(record),
        "arms": arms,
        "best": best,
        "metrics": _metric_rows(record, tasks),
        "gates": gates,
        "pairs": _pairs(record),
        "warnings": record.warnings,
        "curve_arms": _curve_arms(record),
        "kinds": {task: record.tasks[task].kind for task in tasks},
        "provenance": {
            "Data": flat(record.data),
            "Settings": flat({name: value for name, value in record.settings.items() if name != "recipe"}),
            "Environment": flat(record.environment),
        },
        "gallery": gallery,
        "present": _present(record, gallery, gates),
        "left_out": by_reason(record.left_out),
        "recipe": yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe else "",
        "searches": _searches(record),
        "has_means": any(" + " in arm for arm in record.recommendation.arms.values()),
        "filter_tasks": [{"name": t, "verdict": v.verdict if (v := record.verdicts.get(t)) else ""} for t in tasks],
    }


def _data_name(record: StudyRecord) -> str:
    """The file's name, or what the recipe calls data that are no file."""
    named = (record.settings.get("recipe") or {}).get("data") or {}
    return PurePath(str(record.data.get("path") or next(iter(named), "–"))).name


def _present(record: StudyRecord, gallery: Gallery, gates: Mapping[str, Any]) -> set[str]:
    """Of the sections that not every record has, those that have something to show."""
    there = {
        "search": record.search or record.sharing_curves,
        "curves": gallery.of("curves"),
        "weights": gallery.of("weights"),
        "conflict": gallery.of("conflict"),
        "answers": gallery.of("calibration") or gallery.of("residuals"),
        "affinity": record.affinity,
        "gates": gates,
        "left-out": record.left_out,
    }
    return {name for name, found in there.items() if found}


def headline(record: StudyRecord) -> str:
    """The finding in a sentence.

    Args:
        record: The study.
    """
    if not record.verdicts:
        return "No verdict: joint or single models were not run."
    by: dict[str, list[str]] = {"helped": [], "hurt": [], "no evidence": []}
    for task, verdict in record.verdicts.items():
        by.setdefault(verdict.verdict, []).append(task)
    total = len(record.verdicts)
    if not by["helped"] and not by["hurt"]:
        where = f"any of the {total} tasks" if total > 1 else f"the task {next(iter(record.verdicts))}"
        return f"No evidence that learning together helped or hurt {where}."
    of = f" of {total} tasks" if total > 1 else " task"
    parts = [
        f"{word} {len(names)}{of}{f' ({listed(names)})' if len(names) <= 3 else ''}"
        for word in ("helped", "hurt")
        if (names := by[word])
    ]
    parts[1:] = [part.replace(of, "", 1) for part in parts[1:]]
    rest = len(by["no evidence"])
    tail = f"; for {rest} there is no evidence either way" if rest else ""
    return f"Learning together {' and '.join(parts)}{tail}."


def _together(record: StudyRecord) -> str:
    """That most gains are above zero where no task alone has evidence; empty otherwise."""
    gains = [gain for verdict in record.verdicts.values() if (gain := finite(verdict.gain)) is not None]
    ahead = sum(gain > 0 for gain in gains)
    if any(verdict.verdict != "no evidence" for verdict in record.verdicts.values()) or ahead <= len(gains) / 2:
        return ""
    if len(gains) == 1:
        return ""
    return (
        f"No task alone has evidence, but {ahead} of {len(gains)} gains are above zero; that is no test of all tasks "
        "together, since their gains come from the same folds."
    )


def _in_order(record: StudyRecord) -> list[str]:
    """Tasks with a finding first, then by the size of the gain; in the record's order where that is the same."""

    def place(task: str) -> tuple[int, float]:
        verdict = record.verdicts.get(task)
        return (3, 0.0) if verdict is None else (_RANK.get(verdict.verdict, 2), -abs(finite(verdict.gain) or 0.0))

    return sorted(record.tasks, key=place)


def _last(value: float | None) -> float:
    return float("inf") if value is None else value


def _best(record: StudyRecord, task: str) -> str | None:
    means = {
        name: mean
        for name, arm in record.arms.items()
        if task in arm.error and (mean := finite(arm.error[task].mean)) is not None
    }
    return min(means, key=lambda name: means[name]) if means else None


def _verdicts(record: StudyRecord, tasks: Sequence[str]) -> list[dict[str, Any]]:
    found = {task: record.verdicts[task] for task in tasks if task in record.verdicts}
    shown = {task: (v.gain, v.interval[0], possible(v.interval[1])) for task, v in found.items()}
    scale = scale_of(shown.values())
    return [
        {
            "task": task,
            "verdict": v.verdict,
            "mark": MARKS.get(v.verdict, "○"),
            "gain": v.gain,
            "low": v.interval[0],
            "high": shown[task][2],
            "strip": scale.strip(*shown[task], v.verdict.replace(" ", "-")),
            "limit": scale.limit,
            "sure": sureness(v.verdict, v.p_corrected, *v.interval, len(found)),
            "tested": _tested(record, v),
            "use": v.recommendation,
        }
        for task, v in found.items()
    ]


def _tested(record: StudyRecord, verdict: Verdict) -> str:
    """On what a verdict rests."""
    is_fixed = any(record.settings.get(name) is not None for name in ("holdout", "split"))
    what = "training" if is_fixed else "fold"
    return f"{verdict.n_pairs} {what}{'s' * (verdict.n_pairs != 1)}{' of each model' * is_fixed}"


def _choices(record: StudyRecord, tasks: Sequence[str]) -> list[dict[str, Any]]:
    advice = record.recommendation
    outsider = record.arms.get(advice.best_outsider or "")
    rows = []
    for task in tasks:
        counts = advice.chosen.get(task, {})
        rows.append(
            {
                "task": task,
                "use": advice.arms.get(task),
                "error": advice.error.get(task, Interval(None)),
                "outsider": (outsider.error if outsider else {}).get(task, Interval(None)),
                "chosen": sorted(counts.items(), key=lambda item: -item[1]),
                "folds": sum(counts.values()),
            }
        )
    return rows


def _metric_rows(record: StudyRecord, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """A row a task and metric; of many tasks only the metric that counts."""
    rows = []
    for task in tasks:
        about = record.tasks[task]
        names = dict.fromkeys([about.metric, *(m for arm in record.arms.values() for m in arm.metrics.get(task, {}))])
        for name in names if len(tasks) <= 24 else [about.metric]:
            if name != "relative_error":
                cells = {a: arm.metrics.get(task, {}).get(name, Interval(None)) for a, arm in record.arms.items()}
                arrow = ("↑" if about.higher_is_better else "↓") if name == about.metric else ""
                rows.append({"task": task, "metric": name, "arrow": arrow, "cells": cells})
    return rows


def _searches(record: StudyRecord) -> dict[str, list[dict[str, Any]]]:
    """Per arm that searched, a row for each fold that was searched in."""
    return {
        arm: [{**fold, "found": configuration(fold["best"]["configuration"])} for fold in found["folds"]]
        for arm, found in record.search.items()
    }


def _gates(found: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, list[float | None]]:
    shares = {task: found[task] for task in tasks if task in found}
    return {task: [finite(v) for v in (s.values() if isinstance(s, Mapping) else s)] for task, s in shares.items()}


def _pairs(record: StudyRecord) -> dict[str, dict[str, list[tuple[str, str, float]]]]:
    """Per arm and caption, pairs of tasks with the mean cosine of their gradients."""
    found = {}
    for arm, conflict in record.conflict.items():
        means = [
            (a, b, sum(seen) / len(seen))
            for (a, b), values in training_figures.cosines(conflict, list(record.tasks)).items()
            if (seen := [v for v in values if v is not None])
        ]
        means.sort(key=lambda row: row[2])
        if len(means) > 2 * _PAIRS:
            lowest = f"the {_PAIRS} of {len(means):,} pairs that agree least"
            found[arm] = {lowest: means[:_PAIRS], f"the {_PAIRS} that agree most": means[::-1][:_PAIRS]}
        elif means:
            found[arm] = {"all pairs, the least agreeing first": means}
    return found


def _curve_arms(record: StudyRecord) -> list[str]:
    """Joint beside single, as the verdicts compare them, and further joint arms that are recommended for a task."""
    compared = [arm for v in record.verdicts.values() for arm in (v.joint, v.single)]
    wanted = dict.fromkeys([*compared, *record.recommendation.arms.values(), *record.curves])
    return [arm for arm in wanted if record.curves.get(arm)][:3]


def _gallery(record: StudyRecord, tasks: Sequence[str], best: Mapping[str, str | None]) -> Gallery:
    gallery = Gallery()
    shown = _curve_arms(record)
    if len(tasks) > _FEW:
        gallery.add("gains", verdict_figures.gains(record.verdicts))
    for task in tasks:
        found = {name: arm.error[task] for name, arm in record.arms.items() if task in arm.error}
        gallery.add("errors", answer_figures.errors(task, found, best[task]))
        gallery.add("curves", training_figures.curve(task, record.curves, shown))
        gallery.add("calibration", answer_figures.calibration(task, record.calibration.get(task, ())))
        gallery.add("residuals", answer_figures.residuals(task, record.residuals.get(task, {})))
    for arm, tried in record.search.items():
        gallery.add("search", search_figures.trade_off(arm, tried))
    for arm, by_fold in record.sharing_curves.items():
        gallery.add("search", search_figures.ratios(arm, by_fold))
    for arm, weights in record.weights.items():
        gallery.add("weights", training_figures.weights(arm, weights))
    for arm, conflict in record.conflict.items():
        pairs = training_figures.cosines(conflict, list(record.tasks))
        if pairs:
            gallery.add("conflict", training_figures.matrix(arm, pairs))
            gallery.add("conflict", training_figures.over_time(arm, conflict["epoch"], pairs))
    for arm, seen in record.affinity.items():
        gallery.add("affinity", heat_map(f"{seen['measure']}, {arm}", seen["words"], seen["tasks"], seen["values"]))
    if record.coverage:
        gallery.add("coverage", answer_figures.coverage(record.coverage["tasks"], record.coverage.get("together", ())))
    return gallery
