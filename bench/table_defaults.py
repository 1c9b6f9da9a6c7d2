"""How does the default joint network on tables stand against outsiders that train one model a task?

Every arm sees the same rows: random (or grouped) splits into 60 % training, 20 % validation, 20 % test rows. Validation
rows serve early stopping and the choice of an outsider's settings, and nothing is fitted again on them. The score is
the mean over tasks of the relative error on the test rows: the mean error (squared, log loss, deviance) over that of
the best constant; 1 is as good as knowing the mean, 0 is perfect.

    joint      the default joint network of `polytask fit`
    patient    the same with three times the epochs and 40 instead of 16 without progress before it stops
    steady     the same as joint with dropout that does not fade
    undropped  the same as joint without dropout
    plain      one residual network without members (encoder `tabular`)
    boosting   one model a task: histogram gradient boosting, the better of two sizes, stopped early
    trees      one model a task: extremely randomised trees, the best of three leaf sizes
    linear     one model a task: ridge or logistic regression, strength by cross-validation
    forest     polytask.trees.JointForestCV, all tasks at once

    python bench/table_defaults.py [--data FOLDER] [--quick] [--splits 3] [--cache FILE]
                                   [--arms joint,trees] [--tables enb,jura]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.io import arff
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegressionCV, RidgeCV

from polytask import Recipe
from polytask.data.bundled import load_bundled
from polytask.data.generators import clustered_tasks, mmoe_synthetic, related_regressions
from polytask.data.splits import Split, holdout
from polytask.tasks.task import Prediction, Task
from polytask.training.data_sets import TableData
from polytask.training.opening import make_tasks
from polytask.training.planning import plan_of
from polytask.training.preparation import Prepared, prepare
from polytask.training.run import fit
from polytask.trees import JointForestCV

SPLIT = {"validation": 0.2, "test": 0.2}
ARFF_TARGETS = {"enb": 2, "jura": 3, "oes10": 16, "sf2": 3}


@dataclass(frozen=True)
class Case:
    """A table and its tasks.

    Args:
        frame: Inputs and targets.
        tasks: Kind of each task.
        inputs: Input columns; all that are no targets if empty.
        groups: Column whose values stay on one side of a split.
    """

    frame: pd.DataFrame
    tasks: Mapping[str, str]
    inputs: tuple[str, ...] = ()
    groups: str = ""


# Tables


def hidden(frame: pd.DataFrame, targets: Sequence[str], share: float, seed: int = 0) -> pd.DataFrame:
    """The table with a share of its labels missing at random."""
    rng = np.random.default_rng(seed)
    labels = frame[list(targets)].astype(object).mask(rng.random((len(frame), len(targets))) < share)
    return frame.assign(**{name: labels[name].infer_objects() for name in targets})


def bent(n_rows: int, n_inputs: int, seed: int) -> Case:
    """Tasks of four kinds on two hidden, crooked features."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, n_inputs))
    features = np.column_stack([np.sin(1.5 * x[:, 0]) + x[:, 1] * x[:, 2], np.abs(x[:, 3]) - x[:, 1]])
    z = features @ rng.normal(size=(2, 4)) + 0.5 * rng.normal(size=(n_rows, 4))
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(n_inputs)])
    frame["number"], frame["yes"] = np.exp(0.7 * z[:, 0]), (z[:, 1] > 0.5).astype(int)
    frame["grade"], frame["visits"] = np.digitize(z[:, 2], [-1, 0, 1]), rng.poisson(np.exp(0.5 * z[:, 3]))
    return Case(frame, {"number": "regression", "yes": "binary", "grade": "ordinal", "visits": "count"})


def generated() -> Iterator[tuple[str, Case]]:
    small = related_regressions(4, 170, n_inputs=10, noise=1.0)
    yield "related 100", Case(small.frame, dict.fromkeys(small.targets, "regression"))
    wide = clustered_tasks((3, 3), 350, n_inputs=100, noise=0.5, missing=0.3)
    yield "wide 210", Case(wide.frame, dict.fromkeys(wide.targets, "regression"))
    sines = mmoe_synthetic(0.8, 4000, n_inputs=20, n_sines=4)
    yield "sines 2400", Case(sines.frame, dict.fromkeys(sines.targets, "regression"))
    yield "kinds 600", bent(1000, 8, 0)
    yield "kinds 6000", bent(10_000, 8, 1)


def bundled() -> Iterator[tuple[str, Case]]:
    diabetes = load_diabetes(as_frame=True).frame
    yield "diabetes", Case(diabetes, dict.fromkeys(("target", "bmi", "bp", "s6"), "regression"))
    wine = load_wine(as_frame=True).frame
    targets = {"target": "multiclass", **dict.fromkeys(("proline", "hue", "flavanoids"), "regression")}
    yield "wine", Case(wine, targets)
    cancer = load_breast_cancer(as_frame=True).frame
    names = ["target", "worst concave points", "worst texture", "worst smoothness"]
    inputs = tuple(name for name in cancer if str(name).startswith("mean"))
    yield "cancer", Case(cancer, {names[0]: "binary", **dict.fromkeys(names[1:], "regression")}, inputs)
    for name, n_rows in (("marriage", None), ("insurance", 6_000)):
        table = load_bundled(name)
        frame = table.frame if n_rows is None else table.frame.sample(n_rows, random_state=0).reset_index(drop=True)
        kinds = {task.name: task.kind for task in table.tasks}
        yield name, Case(frame, kinds, tuple(table.inputs), table.groups or "")


def from_folder(folder: Path) -> Iterator[tuple[str, Case]]:
    for name, n_targets in ARFF_TARGETS.items():
        records, meta = arff.loadarff(str(folder / "mulan_mtr" / f"{name}.arff"))
        frame = pd.DataFrame(records).apply(lambda c: c.str.decode("utf-8") if c.dtype == object else c)
        targets = dict.fromkeys(meta.names()[-n_targets:], "regression")
        yield name, Case(frame, targets)
        if name in ("enb", "jura"):
            yield f"{name} 80% missing", Case(hidden(frame, list(targets), 0.8), targets)
    parkinsons = pd.read_csv(folder / "parkinsons" / "parkinsons_updrs.csv")
    inputs = tuple(parkinsons.columns[1:4]) + tuple(parkinsons.columns[6:])
    yield (
        "parkinsons",
        Case(parkinsons, dict.fromkeys(("motor_UPDRS", "total_UPDRS"), "regression"), inputs, "subject#"),
    )
    names = ["age", "workclass", "weight", "education", "education_num", "marital", "occupation", "relationship"]
    names += ["race", "sex", "gain", "loss", "hours", "country", "income"]
    adult = pd.read_csv(folder / "adult" / "adult.data", names=names, skipinitialspace=True, na_values="?")
    adult = adult.sample(10_000, random_state=0).reset_index(drop=True)
    adult["single"] = (adult["marital"] == "Never-married").astype(int)
    inputs = tuple(names[i] for i in (0, 1, 2, 6, 8, 9, 10, 11, 12, 13))
    yield "adult", Case(adult, {"income": "binary", "single": "binary", "education_num": "regression"}, inputs)


# Arms


def recipe_of(case: Case, seed: int, **settings: Any) -> Recipe:
    return Recipe(tasks={name: {"kind": kind} for name, kind in case.tasks.items()}, seed=seed, **settings)


def prepared_for(case: Case, seed: int, recipe: Recipe) -> Prepared:
    groups = case.frame[case.groups].to_numpy() if case.groups else None

    def split(data: Any, tasks: Any) -> Split:
        return holdout(len(data), seed=seed, groups=groups, **SPLIT)

    data = TableData(
        "data",
        case.frame,
        inputs=case.inputs or None,
        targets=list(case.tasks),
        options={"scaling": recipe.source("data").scaling},
    )
    tasks, _ = make_tasks(recipe, [data])
    return prepare([data], tasks, split)


def network(**settings: Any) -> Callable[[Case, int], tuple[dict[str, float], str]]:
    """A joint network; ``settings`` are those of a recipe."""

    def arm(case: Case, seed: int) -> tuple[dict[str, float], str]:
        recipe = recipe_of(case, seed, **settings)
        prepared = prepared_for(case, seed, recipe)
        fitted = fit(prepared, plan_of(recipe, prepared))
        errors = {name: metrics["relative_error"] for name, metrics in fitted.metrics.items()}
        return errors, f"best epoch {fitted.best_epoch} of {fitted.epochs}"

    return arm


def matrices(prepared: Prepared, part: str, *, one_hot: bool) -> np.ndarray:
    inputs = getattr(prepared, part)["data"].inputs
    blocks = [inputs["numeric"].numpy()] if "numeric" in inputs else []
    if "categorical" in inputs:
        codes = inputs["categorical"].numpy()
        sizes = prepared.transforms["data"].cardinalities.values()
        blocks += [np.eye(n)[codes[:, j]] for j, n in enumerate(sizes)] if one_hot else [codes]
    return np.concatenate(blocks, axis=1)


def is_class(task: Task) -> bool:
    return task.kind in ("binary", "multiclass", "ordinal")


def answer(task: Task, model: Any, x: np.ndarray) -> torch.Tensor:
    if not is_class(task):
        values = model.predict(x)
        if task.kind == "count":
            return torch.from_numpy(np.log(np.maximum(values, 1e-3)))[:, None]
        return torch.from_numpy(np.asarray(values, dtype=float))[:, None]
    shares = np.zeros((len(x), task.n_outputs + (task.kind != "multiclass")))
    shares[:, model.classes_.astype(int)] = model.predict_proba(x)
    shares = np.clip(shares, 1e-4, 1)  # a leaf of one class is never quite sure
    shares /= shares.sum(axis=1, keepdims=True)
    classes = task.classes_.names
    return task.outputs_from(Prediction(np.array(classes)[shares.argmax(1)], shares, tuple(classes)))


def one_a_task(
    candidates: Callable[[Task, int, Any], list[Any]], *, one_hot: bool
) -> Callable[[Case, int], tuple[dict[str, float], str]]:
    """One model a task: of the candidates, the one that is best on the validation rows."""

    def arm(case: Case, seed: int) -> tuple[dict[str, float], str]:
        prepared = prepared_for(case, seed, recipe_of(case, seed))
        x = {part: matrices(prepared, part, one_hot=one_hot) for part in ("train", "validation", "test")}
        errors = {}
        for task in prepared.tasks:
            y, seen = ({part: getattr(getattr(prepared, part)["data"], what)[task.name] for part in x}
                       for what in ("targets", "observed"))  # fmt: skip
            rows = {part: seen[part].numpy() for part in x}
            best: tuple[float, Any] = (np.inf, None)
            for model in candidates(task, seed, prepared):
                labels = y["train"].numpy()[rows["train"]]
                extra: dict[str, Any] = {}
                if hasattr(model, "early_stopping") and rows["validation"].sum() > 1:
                    extra = {
                        "X_val": x["validation"][rows["validation"]],
                        "y_val": y["validation"].numpy()[rows["validation"]],
                    }
                model.fit(x["train"][rows["train"]], labels, **extra)
                outputs = answer(task, model, x["validation"])
                error = task.evaluate(outputs, y["validation"], seen["validation"])["relative_error"]
                if best[1] is None or error < best[0]:
                    best = (error, model)
            outputs = answer(task, best[1], x["test"])
            errors[task.name] = task.evaluate(outputs, y["test"], seen["test"])["relative_error"]
        return errors, ""

    return arm


def boosting(task: Task, seed: int, prepared: Prepared) -> list[Any]:
    transform = prepared.transforms["data"]
    codes = range(transform.n_numeric, transform.n_numeric + len(transform.cardinalities))
    common = {"random_state": seed, "early_stopping": True, "max_iter": 400, "n_iter_no_change": 20,
              "categorical_features": [j for j, n in zip(codes, transform.cardinalities.values(), strict=True)
                                       if n <= 255] or None}  # fmt: skip
    sizes: tuple[dict[str, Any], ...] = (
        {},
        {"learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 10, "l2_regularization": 1.0},
    )
    if is_class(task):
        return [HistGradientBoostingClassifier(**common, **size) for size in sizes]
    loss = "poisson" if task.kind == "count" else "squared_error"
    return [HistGradientBoostingRegressor(loss=loss, **common, **size) for size in sizes]


def extra_trees(task: Task, seed: int, prepared: Prepared) -> list[Any]:
    kind = ExtraTreesClassifier if is_class(task) else ExtraTreesRegressor
    return [kind(100, min_samples_leaf=leaf, random_state=seed) for leaf in (1, 4, 15)]


def linear(task: Task, seed: int, prepared: Prepared) -> list[Any]:
    if is_class(task):
        return [LogisticRegressionCV(Cs=6, cv=3, max_iter=300, scoring="neg_log_loss", use_legacy_attributes=False,
                                     l1_ratios=(0.0,))]  # fmt: skip
    return [RidgeCV(alphas=np.logspace(-2, 4, 13))]


def joint_forest(case: Case, seed: int) -> tuple[dict[str, float], str]:
    prepared = prepared_for(case, seed, recipe_of(case, seed))
    x = {part: matrices(prepared, part, one_hot=True) for part in ("train", "test")}
    train, test = prepared.train["data"], prepared.test["data"]
    labels = np.column_stack(
        [np.where(train.observed[t.name], train.targets[t.name].double(), np.nan) for t in prepared.tasks]
    )
    kinds = ["multiclass" if t.kind == "ordinal" else "regression" if t.kind == "count" else t.kind
             for t in prepared.tasks]  # fmt: skip
    search = JointForestCV(
        kinds, n_estimators=100, leaves=(1, 4, 15), features=(1.0, "sqrt"), splits=("random",), random_state=seed
    )
    search.fit(x["train"], labels)
    values = search.predict(x["test"])
    values = np.asarray(values, dtype=float).reshape(len(x["test"]), -1)
    probabilities = search.predict_proba(x["test"]) if any(map(is_class, prepared.tasks)) else None
    errors = {}
    for j, task in enumerate(prepared.tasks):
        outputs = answer(task, _Column(values[:, j], probabilities, j, len(prepared.tasks)), x["test"])
        errors[task.name] = task.evaluate(outputs, test.targets[task.name], test.observed[task.name])["relative_error"]
    return errors, str(search.best_params_["min_samples_leaf"])


class _Column:
    """One task of the joint forest, as if it were a model of its own."""

    def __init__(self, values: np.ndarray, probabilities: Any, j: int, n_tasks: int):
        self.values, self.probabilities, self.j = values, probabilities, j

    @property
    def classes_(self) -> np.ndarray:
        return np.arange(self.predict_proba(None).shape[1])

    def predict(self, x: Any) -> np.ndarray:
        return self.values

    def predict_proba(self, x: Any) -> np.ndarray:
        return np.asarray(self.probabilities[self.j])


ARMS: dict[str, Callable[[Case, int], tuple[dict[str, float], str]]] = {
    "joint": network(),
    "patient": network(training={"epochs": 300, "patience": 40}),
    "steady": network(training={"dropout_fades": False}),
    "undropped": network(encoder={"name": "tabm", "dropout": 0.0}),
    "plain": network(
        encoder="tabular",
        training={"batch_size": 256, "learning_rate": 1e-3, "weight_decay": 1e-4, "stop_rule": "mean_rank"},
    ),
    "boosting": one_a_task(boosting, one_hot=False),
    "trees": one_a_task(extra_trees, one_hot=True),
    "linear": one_a_task(linear, one_hot=True),
    "forest": joint_forest,
}
VARIANTS = ("patient", "steady", "undropped")
"""Of the first arm, for comparison."""


# The table


def measure(
    cases: Mapping[str, Case], arms: Mapping[str, Any], seeds: Sequence[int], cache: Path | None
) -> dict[str, dict[str, Any]]:
    """Each trial once: errors by task, seconds, a remark."""
    known: dict[str, dict[str, Any]] = json.loads(cache.read_text()) if cache and cache.exists() else {}
    for name, case in cases.items():
        for arm, way in arms.items():
            for seed in seeds:
                key = f"{arm}|{name}|{seed}"
                if key in known:
                    continue
                began = time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    errors, remark = way(case, seed)
                known[key] = {"errors": errors, "seconds": time.process_time() - began, "remark": remark}
                if cache:
                    others = json.loads(cache.read_text()) if cache.exists() else {}
                    cache.write_text(json.dumps({**others, **known}))
    return known


def report(names: Sequence[str], arms: Sequence[str], seeds: Sequence[int], known: Mapping[str, Any]) -> None:
    """Mean relative error, a row a table; the seconds of a training of each arm; mean rank."""
    print(f"{'mean relative error':<20} " + " ".join(f"{arm:>12}" for arm in arms))
    rows = []
    for name in names:
        scores = [np.nanmean([[*known[f"{arm}|{name}|{seed}"]["errors"].values()] for seed in seeds]) for arm in arms]
        rows.append(scores)
        seconds = np.mean([known[f"{arms[0]}|{name}|{seed}"]["seconds"] for seed in seeds])
        marks = ["*" if s == min(scores) else " " for s in scores]
        print(f"{name:<20} " + " ".join(f"{s:11.3f}{m}" for s, m in zip(scores, marks, strict=True))
              + f"   {seconds:6.1f} s")  # fmt: skip
    table = np.array(rows)
    ranks = table.argsort(axis=1).argsort(axis=1) + 1
    print(f"{'mean':<20} " + " ".join(f"{s:11.3f} " for s in np.minimum(table, 1.5).mean(axis=0)))
    print(f"{'mean rank':<20} " + " ".join(f"{r:11.2f} " for r in ranks.mean(axis=0)))
    spent = [np.mean([known[f"{arm}|{name}|{seed}"]["seconds"] for name in names for seed in seeds]) for arm in arms]
    print(f"{'seconds a fit':<20} " + " ".join(f"{s:11.1f} " for s in spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mulan_mtr/, parkinsons/ and adult/")
    parser.add_argument("--quick", action="store_true", help="one split, tables of at most 2,000 rows")
    parser.add_argument("--cache", type=Path, help="JSON file of trials that need not be done again")
    parser.add_argument("--arms", default=",".join(arm for arm in ARMS if arm not in VARIANTS))
    parser.add_argument("--tables", default="", help="names of tables; all if not given")
    parser.add_argument("--splits", type=int, default=3, help="random splits of each table")
    given = parser.parse_args()
    cases = dict([*generated(), *bundled(), *(from_folder(given.data) if given.data else ())])
    seeds = range(1 if given.quick else given.splits)
    if given.quick:
        cases = {name: case for name, case in cases.items() if len(case.frame) <= 2000}
    if given.tables:
        cases = {name: cases[name] for name in given.tables.split(",")}
    arms = {name: ARMS[name] for name in given.arms.split(",")}
    torch.set_num_threads(1)
    known = measure(cases, arms, seeds, given.cache)
    report(list(cases), list(arms), seeds, known)


if __name__ == "__main__":
    main()
