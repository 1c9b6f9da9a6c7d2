"""Weights of rows that make one source stand for another: density ratios by a classifier between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from polytask.data.batch import ArraySource
from polytask.errors import DataError, RecipeError, UnknownNameError
from polytask.training.data_sets import ArrayData, DataSet, TableData
from polytask.training.preparation import Prepared
from polytask.training.row_columns import weights_of

__all__ = ["Importance", "add_importance", "density_ratio"]


@dataclass(frozen=True)
class Importance:
    """How important each training row of a source is.

    Args:
        column: A column of weights, scaled to mean one on the training rows.
        to: In its place, the source whose rows these rows should stand for.
        clip: The largest weight, before scaling.
    """

    column: str | None = None
    to: str | None = None
    clip: float = 10.0

    def __post_init__(self) -> None:
        if (self.column is None) == (self.to is None):
            got = "both" if self.to is not None else "neither"
            raise RecipeError(
                "importance needs a `column` of weights or, in its place, `to`: the source that the rows should stand "
                f"for; got {got}."
            )
        if not self.clip >= 1.0:
            raise RecipeError(f"importance needs a clip of at least 1, got {self.clip!r}.")


def add_importance(prepared: Prepared, data: Sequence[DataSet], asked: Mapping[str, Importance]) -> None:
    """Multiply the row weights of training rows, and note how many rows they are still worth.

    Raises:
        DataError: If a column is not there, or two sources have no input in common.
    """
    by_name = {d.name: d for d in data}
    for name, importance in asked.items():
        if name not in prepared.train:
            raise UnknownNameError("source", name, prepared.train)
        rows = prepared.splits[name].train
        if importance.column is not None:
            try:
                column = by_name[name].column(importance.column)
            except DataError:
                names, where = by_name[name].label_names, f"importance of source {name!r}"
                raise DataError(str(UnknownNameError("column", importance.column, names, where))) from None
            weights = weights_of(by_name[name], column[rows], importance.column)
        else:
            to = str(importance.to)
            if to not in by_name or to == name:
                raise UnknownNameError("other source for importance weights", to, [n for n in by_name if n != name])
            here, there = _common(by_name[name], by_name[to], rows, prepared.splits[to].train)
            weights = torch.from_numpy(density_ratio(here, there, importance.clip))
        if not float(weights.sum()) > 0.0:
            raise DataError(
                f"Source {name!r}: the importance of all {len(rows)} training rows is 0, so nothing would be learned "
                "from them: give some a weight above 0, or take `importance` out."
            )
        weights = (weights / weights.mean()).float()
        source: ArraySource = prepared.train[name]
        known = source.row_weights
        prepared.train[name] = replace(source, row_weights=weights if known is None else known * weights)
        worth = float(weights.sum()) ** 2 / float(weights.square().sum())
        what = f"column {importance.column!r}" if importance.to is None else f"likeness to those of {importance.to!r}"
        prepared.notes.append(
            f"The {len(rows)} training rows of {name!r} are weighted by {what}, and are worth as much as {worth:.0f} "
            "rows of one weight."
        )


def density_ratio(here: pd.DataFrame, there: pd.DataFrame, clip: float = 10.0, seed: int = 0) -> np.ndarray:
    r"""Weights with which the rows of one sample stand for another sample.

    .. math:: w(x) = \frac{p_\mathrm{there}(x)}{p_\mathrm{here}(x)}
        = \frac{P(\mathrm{there} \mid x)}{P(\mathrm{here} \mid x)} \cdot \frac{n_\mathrm{here}}{n_\mathrm{there}}

    with the probabilities of a logistic regression on scaled numbers, their squares and the categories, each row's by a
    model that did not see it.

    Args:
        here: The rows to weigh.
        there: The rows that they should stand for, with the same columns.
        clip: The largest weight.
        seed: Of the folds.

    Raises:
        DataError: If one of the samples has fewer than 5 rows.

    Note:
        Right where the ratio's logarithm is about quadratic in the numbers, as between normal distributions. It says
        nothing where one sample has no rows at all.

    References:
        Sugiyama, Suzuki and Kanamori, Density Ratio Estimation in Machine Learning, 2012, chapter 4; Bickel, Brueckner
        and Scheffer, Discriminative Learning under Covariate Shift, JMLR 2009.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    folds = 5
    if min(len(here), len(there)) < folds:
        raise DataError(f"A density ratio needs {folds} rows of each source, got {len(here)} and {len(there)}.")
    rows = pd.concat([here, there], ignore_index=True)
    is_there = np.repeat([0, 1], [len(here), len(there)])
    model = make_pipeline(_encoder(rows), LogisticRegression(C=1.0, max_iter=1000))
    shuffled = StratifiedKFold(folds, shuffle=True, random_state=seed)
    chance = cross_val_predict(model, rows, is_there, cv=shuffled, method="predict_proba")[: len(here), 1]
    chance = np.clip(chance, 1e-12, 1 - 1e-12)
    ratio: np.ndarray = np.minimum(chance / (1 - chance) * len(here) / len(there), clip)
    return ratio


def _encoder(rows: pd.DataFrame) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    numbers = [c for c in rows if _is_number(rows[c])]
    squares = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True),
        StandardScaler(),
        FunctionTransformer(lambda x: np.hstack([x, x * x])),
        StandardScaler(),
    )
    texts = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="ignore", min_frequency=5),
    )
    return ColumnTransformer([("numbers", squares, numbers), ("texts", texts, [c for c in rows if c not in numbers])])


def _common(
    one: DataSet, other: DataSet, rows: np.ndarray, other_rows: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both samples with the inputs that they have in common.

    Raises:
        DataError: If there are none.
    """
    samples = _inputs(one, rows), _inputs(other, other_rows)
    names = [name for name in samples[0] if name in samples[1]]
    if not names:
        raise DataError(f"{one.name!r} and {other.name!r} have no input in common, so their rows cannot be compared.")
    return samples[0][names], samples[1][names]


def _inputs(data: DataSet, rows: np.ndarray) -> pd.DataFrame:
    if isinstance(data, TableData):
        columns = {name: data.table.column(name).iloc[rows].reset_index(drop=True) for name in data.inputs}
        frame = pd.DataFrame(columns)
        for name in data.inputs:
            if not _is_number(frame[name]):
                frame[name] = frame[name].astype(object).where(frame[name].notna(), None).map(_text)
        return frame
    if isinstance(data, ArrayData):
        named = data.inputs if isinstance(data.inputs, Mapping) else {"x": data.inputs}
        flat = {key: np.asarray(x)[rows].reshape(len(rows), -1) for key, x in named.items()}
        return pd.DataFrame({f"{key} {i}": x[:, i] for key, x in flat.items() for i in range(x.shape[1])})
    raise DataError(f"The rows of {data.name!r} are neither a table nor arrays; give a column of importance weights.")


def _is_number(column: Any) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _text(value: Any) -> str:
    return "missing" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
