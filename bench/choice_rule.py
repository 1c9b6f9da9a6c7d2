"""What do rules of choice make of the same kept answers? Read from the folders of studies; nothing is trained.

A study keeps what every arm answered on the validation and test rows of each fold. A rule chooses inside each fold, by
the validation rows alone, and its error is that of what it chose on the test rows of that fold, a mean over folds and
tasks (the relative error: 1 is the best constant).

    one arm        for all tasks, the arm with the lowest mean error on the validation rows
    arm a task     for each task, the arm with the lowest
    arm or pair    for all tasks, the best of the arms and of the means of two
    pair a task    the same for each task
    all            the mean of all arms
    study          the rule of `polytask study`: see `polytask.study.choice`
    hindsight      for each fold, the arm that is best on its test rows: no rule, but what one arm could reach

Studies whose rows are kept together in groups are left out: the groups of the validation rows, by which the rule of a
study counts there, are not kept.

    python bench/choice_rule.py runs/jura runs/enb
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from polytask.study.choice import choose_all
from polytask.study.scores import Candidate, FoldScores
from polytask.study.store import Store, load_answers, load_fold, load_trial, trial_key

Rule = Callable[[FoldScores, Sequence[str]], "dict[str, Candidate]"]


def folds_of(folder: Path) -> tuple[list[FoldScores], list[str]]:
    """The folds on which every arm has its answers, and the arms."""
    store = Store(folder)
    places = sorted(tuple(map(int, path.stem.split("-"))) for path in (folder / "folds").glob("*.json"))
    names = {path: load_trial(store, path.name, *place)
             for place in places for path in (folder / "trials").iterdir()
             if (path / f"{place[0]}-{place[1]}.json").exists()}  # fmt: skip
    arms = sorted(trial.arm for trial in names.values() if trial is not None and not trial.why_not)
    found = []
    for place in places:
        kept = load_fold(store, *place)
        there = [(folder / f"{trial_key(arm, *place)}.json").exists() for arm in arms]
        if kept is not None and all(there):
            trials = {arm: trial for arm in arms if (trial := load_trial(store, arm, *place)) is not None}
            found.append(FoldScores(kept, trials, {arm: load_answers(store, arm, *place) for arm in arms}))
    return found, arms


def pairs(arms: Sequence[str]) -> list[Candidate]:
    return [*((arm,) for arm in arms), *combinations(arms, 2)]


def lowest(
    scores: FoldScores, candidates: Sequence[Candidate], tasks: Sequence[str], part: str = "validation"
) -> Candidate:
    """The candidate with the lowest mean error; one that does not serve every task is none."""
    errors = [np.mean([scores.error(candidate, part, task) for task in tasks]) for candidate in candidates]
    return candidates[int(np.argmin(np.where(np.isnan(errors), np.inf, errors)))]


def overall(candidates: Callable[[Sequence[str]], list[Candidate]], part: str = "validation") -> Rule:
    def rule(scores: FoldScores, arms: Sequence[str]) -> dict[str, Candidate]:
        tasks = list(scores.kept.tasks)
        return dict.fromkeys(tasks, lowest(scores, candidates(arms), tasks, part))

    return rule


def by_task(candidates: Callable[[Sequence[str]], list[Candidate]]) -> Rule:
    def rule(scores: FoldScores, arms: Sequence[str]) -> dict[str, Candidate]:
        return {task: lowest(scores, candidates(arms), [task]) for task in scores.kept.tasks}

    return rule


def alone(arms: Sequence[str]) -> list[Candidate]:
    return [(arm,) for arm in arms]


def of_study(scores: FoldScores, arms: Sequence[str]) -> dict[str, Candidate]:
    return dict(choose_all([scores], arms, list(scores.kept.tasks)).inside[0])


RULES: dict[str, Rule] = {
    "one arm": overall(alone),
    "arm a task": by_task(alone),
    "arm or pair": overall(pairs),
    "pair a task": by_task(pairs),
    "all": overall(lambda arms: [tuple(arms)]),
    "study": of_study,
    "hindsight": overall(alone, "test"),
}


def error_of(rule: Rule, folds: Sequence[FoldScores], arms: Sequence[str]) -> float:
    """Mean over folds and tasks of the error of what the rule chooses."""
    found = []
    for scores in folds:
        chosen = rule(scores, arms)
        found.append([scores.error(candidate, "test", task) for task, candidate in chosen.items()])
    return float(np.nanmean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", help="folders of studies")
    asked = parser.parse_args()
    heads = ["study", "folds", "arms", *RULES]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    rows = []
    for folder in asked.studies:
        folds, arms = folds_of(folder)
        if not folds or any(scores.kept.groups for scores in folds):
            print(f"{folder.name}: left out, " + ("its rows come in groups." if folds else "it has no whole fold."))
            continue
        rows.append([error_of(rule, folds, arms) for rule in RULES.values()])
        cells = [folder.name, str(len(folds)), str(len(arms)), *(f"{error:.4f}" for error in rows[-1])]
        print("| " + " | ".join(cells) + " |", flush=True)
    if rows:
        table = np.array(rows)
        ratios = np.exp(np.log(table / table[:, [list(RULES).index("study")]]).mean(axis=0))
        cells = ["over the study's rule", "", "", *(f"{ratio:.3f}" for ratio in ratios)]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
