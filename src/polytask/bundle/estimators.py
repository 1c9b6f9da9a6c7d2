"""Estimators of scikit-learn and joint forests in a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from polytask.bundle.columns import Column, input_matrix, outputs_of_columns
from polytask.bundle.model import BundledModel, Reading, written
from polytask.data.batch import ArraySource
from polytask.errors import BundleError, InputError
from polytask.shapes import Tensor
from polytask.storage import whole_file
from polytask.tasks.task import Task

__all__ = ["TRUSTED", "Estimators", "Member"]

TRUSTED = (
    "functools.partial",  # of trusted functions only: boosting binds check_array's options with it
    "polytask.trees.forest.JointForest",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
)
"""Types, beyond those that skops itself knows to be harmless, of which an estimator in a bundle may consist."""


@dataclass
class Member:
    """One estimator and the columns that it predicts.

    Args:
        estimator: The fitted estimator.
        columns: Its columns: one, several of a chain, or several of a joint forest.
        smoothing: Weight of equal probabilities mixed into those of classes, so that none is 0.
    """

    estimator: Any
    columns: Sequence[Column]
    smoothing: float = 0.0

    def answers(self, matrix: np.ndarray) -> list[np.ndarray]:
        """For each column ``[N]`` numbers or ``[N, K]`` probabilities."""
        classes = [column for column in self.columns if column.what == "classes"]
        if hasattr(self.estimator, "tasks_"):
            values = self.estimator.predict(matrix)
            shares = self.estimator.predict_proba(matrix) if classes else {}
            return [
                self._probabilities(shares[c.key], self.estimator.classes_[self.estimator.tasks_.index(c.key)], c)
                if c.what == "classes"
                else np.asarray(values[c.key], dtype=np.float64)
                for c in self.columns
            ]
        if not classes:
            numbers = np.asarray(self.estimator.predict(matrix), dtype=np.float64).reshape(len(matrix), -1)
            return [numbers[:, k] for k in range(len(self.columns))]
        found = np.asarray(self.estimator.predict_proba(matrix), dtype=np.float64)
        if len(self.columns) == 1:
            return [self._probabilities(found, self.estimator.classes_, self.columns[0])]
        # A classifier chain: the probability of class 1 for each of its columns.
        return [self._mixed(np.column_stack([1 - found[:, k], found[:, k]])) for k in range(len(self.columns))]

    def _probabilities(self, found: np.ndarray, classes: Any, column: Column) -> np.ndarray:
        """Probabilities of all classes, those that the estimator never saw included."""
        full = np.zeros((len(found), column.n_classes))
        full[:, np.asarray(classes).astype(np.int64)] = found
        return self._mixed(full)

    def _mixed(self, probabilities: np.ndarray) -> np.ndarray:
        mixed: np.ndarray = (1 - self.smoothing) * probabilities + self.smoothing / probabilities.shape[1]
        return mixed


@dataclass
class Estimators(BundledModel):
    """Estimators that together answer one task or several; a task's columns are found among all members.

    Args:
        source: The source whose rows they read.
        served: The tasks, fitted.
        members: The estimators.
        cardinalities: See :func:`~polytask.bundle.columns.input_matrix`.
        encoding: See :class:`BundledModel`.
    """

    source: str
    served: Sequence[Task]
    members: Sequence[Member]
    cardinalities: tuple[int, ...] = ()
    encoding: str = ""

    kind: ClassVar[str] = "estimators"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks they answer."""
        return tuple(task.name for task in self.served)

    @property
    def sources(self) -> tuple[str, ...]:
        """The one source."""
        return (self.source,)

    @property
    def n_parameters(self) -> int:
        """Nodes of all trees."""
        return sum(_n_nodes(member.estimator) for member in self.members)

    def outputs(self, inputs: ArraySource, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of the tasks asked; members that serve none of them are not run."""
        matrix = input_matrix(inputs.inputs, self.cardinalities)
        answers: dict[tuple[str, int], np.ndarray] = {}
        for member in self.members:
            if any(column.task in tasks for column in member.columns):
                if matrix.shape[1] != member.estimator.n_features_in_:
                    raise InputError(
                        f"An estimator of this bundle reads {member.estimator.n_features_in_} inputs, got "
                        f"{matrix.shape[1]}."
                    )
                for column, answer in zip(member.columns, member.answers(matrix), strict=True):
                    answers[column.task, column.index] = answer
        asked = [task for task in self.served if task.name in tasks]
        return {
            task.name: outputs_of_columns(task, [answers[key] for key in sorted(answers) if key[0] == task.name])
            for task in asked
        }

    def write(self, folder: Path, name: str) -> dict[str, Any]:
        """The estimators as one skops file."""
        import skops.io

        path = folder / f"{name}.skops"
        with whole_file(path) as temporary, temporary.open("wb") as file:
            file.write(skops.io.dumps([member.estimator for member in self.members]))
        return written(
            path,
            source=self.source,
            tasks=list(self.tasks),
            cardinalities=list(self.cardinalities),
            members=[
                {"columns": [asdict(column) for column in member.columns], "smoothing": member.smoothing}
                for member in self.members
            ],
        )

    @classmethod
    def read(cls, entry: Mapping[str, Any], reading: Reading) -> Self:
        """Read the estimators, if they consist of trusted types only and their trees lead nowhere they should not."""
        import skops.io
        from skops.io.exceptions import UntrustedTypesFoundException

        path = reading.file(entry)
        try:
            found = skops.io.load(path, trusted=list(TRUSTED))
        except UntrustedTypesFoundException as error:
            raise BundleError(
                f"{path} holds types that no bundle of polytask has, and was not loaded: {error}"
            ) from error
        except Exception as error:  # of archives, arrays and whatever scikit-learn makes of their numbers
            raise BundleError(f"{path} is damaged, or of another version of scikit-learn: {error}") from error
        if len(found) != len(entry["members"]):
            raise BundleError(f"{path} holds {len(found)} estimators, the bundle says {len(entry['members'])}.")
        for estimator in found:
            _check(estimator, path)
        members = [
            Member(estimator, [Column(**column) for column in member["columns"]], member["smoothing"])
            for estimator, member in zip(found, entry["members"], strict=True)
        ]
        served = [reading.tasks[task] for task in entry["tasks"]]
        return cls(entry["source"], served, members, tuple(entry["cardinalities"]))


def _parts(estimator: Any) -> list[Any]:
    """The estimators of a chain, or the estimator itself."""
    return list(estimator.estimators_) if hasattr(estimator, "order_") else [estimator]


def _n_nodes(estimator: Any) -> int:
    total = 0
    for part in _parts(estimator):
        if hasattr(part, "_predictors"):
            total += sum(len(tree.nodes) for stage in part._predictors for tree in stage)
        elif hasattr(part, "forest_"):
            total += sum(tree.tree_.node_count for tree in part.forest_.estimators_)
    return total


def _check(estimator: Any, path: Path) -> None:
    """Scikit-learn follows the nodes' numbers without looking; in a forged file they may lead anywhere."""
    if hasattr(estimator, "check_trees"):
        estimator.check_trees()
        return
    for part in _parts(estimator):
        if not hasattr(part, "_predictors"):
            raise BundleError(f"{path} holds a {type(part).__name__}, which no bundle of polytask has.")
        for tree in (tree for stage in part._predictors for tree in stage):
            nodes = tree.nodes
            inner, own = nodes["is_leaf"] == 0, np.arange(len(nodes))
            ends = [(nodes[side] > own) & (nodes[side] < len(nodes)) for side in ("left", "right")]
            is_input = (nodes["feature_idx"] >= 0) & (nodes["feature_idx"] < part.n_features_in_)
            n_bitsets = len(tree.raw_left_cat_bitsets)
            is_bitset = (nodes["is_categorical"] == 0) | (nodes["bitset_idx"] < n_bitsets)
            if not len(nodes) or not (ends[0] & ends[1] & is_input & is_bitset)[inner].all():
                raise BundleError(f"{path} is damaged: a node of a tree leads to what is not there.")
