"""The cross-validated version of every model, made from the model itself."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import check_cv
from sklearn.utils.parallel import Parallel, delayed

from polytask.errors import RecipeError, TargetError
from polytask.linear.model import LinearModel, LinearPredictor
from polytask.linear.moments import Moments, Problem
from polytask.linear.rows import Array, TaskRows, read_rows

__all__ = ["CrossValidated", "cross_validated"]

Fold = tuple[TaskRows, TaskRows]


class CrossValidated(LinearPredictor):
    """A linear model whose strength is chosen by cross-validation on the training data; made for each model.

    For every fold a path of falling strengths is solved, each solution started from the one before; the strength
    with the smallest squared error on held-out labels, summed over all tasks (in units of each task's spread if
    ``scale="both"``), is used on all rows.

    Args:
        alphas: Strengths to try, or how many to place evenly on a logarithmic scale below the largest that matters.
        cv: Number of folds (``None`` is five), or a scikit-learn splitter, or pairs of row numbers (not for a list
            of tables). With a list of tables the rows of every task are split; a number of folds makes folds of
            neighbouring rows, begun at another fold in each task, so that tasks of few rows do not all lose theirs
            to the same fold.
        n_jobs: Processes for the paths of the folds; ``None`` is one.
        **settings: Those of the model. One that the model lists in ``searched`` may be a sequence, and every
            value is tried.

    Attributes:
        alpha_: The strength chosen; the other settings searched are kept likewise, as ``ratio_`` for ``ratio``.
        alphas_: Strengths tried [S, A], for each of the S combinations of the other settings.
        mse_path_: Mean squared error on held-out labels [S, A, F]; NaN where a path had ended.
        settings_: The S combinations.
        model_: The model fitted on all rows.

    Example:
        >>> import numpy as np
        >>> from polytask.linear import L21CV
        >>> X = np.random.default_rng(0).normal(size=(60, 4))
        >>> Y = np.stack([X[:, 0] + X[:, 1], X[:, 0] - X[:, 1]], axis=1)
        >>> (L21CV(cv=3).fit(X, Y).coef_.round(2) + 0.0).tolist()
        [[1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]]

    Note:
        The rows are read once per fold; a path and its held-out errors come from sufficient statistics alone. A task
        that a fold leaves without labels takes the mean of the others there. Iterative models solve the folds to a
        gap of 1e-4 of the objective (or ``tol``, if larger), since held-out errors are no more certain than that,
        and the final fit to ``tol``. A fold's path ends when its held-out error has risen at five strengths in a row;
        weaker strengths are not chosen.
    """

    model_class: ClassVar[type[LinearModel]]
    fold_tol: ClassVar[float] = 1e-4
    patience: ClassVar[int] = 5

    alphas: int | Sequence[float]
    cv: Any
    n_jobs: int | None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Choose the settings by cross-validation and learn all tasks with them.

        Args:
            X: One table [N, D], or a list of one table [N_t, D] per task.
            y: [N] or [N, T], or a list of one vector [N_t] per task; NaN where a label is missing.
            sample_weight: Weights of the rows, or of the labels, in the shape of either; held-out errors are
                weighted too.

        Raises:
            InputError: If the inputs cannot be used.
            TargetError: If the labels cannot be used, a task has none, or there are too few rows for the folds.
            RecipeError: If a setting is out of its range.
        """
        models = self._models()
        rows = read_rows(self, X, y, sample_weight)
        whole = Moments.of(rows)
        folds = [(Moments.of(train), Moments.of(test)) for train, test in self._folds(rows)]
        problem = Problem.of(whole, models[0].intercept, models[0].scale)
        self.alphas_ = np.stack([self._strengths(model, problem) for model in models])
        jobs = list(itertools.product(zip(map(self._loosened, models), self.alphas_, strict=True), folds))
        errors = Parallel(n_jobs=self.n_jobs)(
            delayed(_held_out_errors)(model, alphas, self.patience, *fold) for (model, alphas), fold in jobs
        )
        self.mse_path_ = np.moveaxis(np.reshape(errors, (len(models), len(folds), -1)), 1, 2)
        weight = np.array([test.weight.sum() for _, test in folds])
        mean_error = self.mse_path_ @ weight / weight.sum()
        best, strength = np.unravel_index(np.nanargmin(mean_error), mean_error.shape)
        self.settings_ = [{name: getattr(model, name) for name in self.model_class.searched} for model in models]
        self.alpha_ = float(self.alphas_[best, strength])
        for name, value in self.settings_[best].items():
            setattr(self, f"{name}_", value)
        self.model_ = models[best].set_params(alpha=self.alpha_).fit(X, y, sample_weight)
        self._form = rows.form
        for name in ("coef_", "intercept_", "n_iter_", "objective_", "gap_", *self.model_class.part_names):
            setattr(self, name, getattr(self.model_, name))
        return self

    def _models(self) -> list[LinearModel]:
        """One model per combination of the settings that are searched."""
        settings = {name: value for name, value in self.get_params(deep=False).items() if name not in _OWN}
        searched = [
            [(name, value) for value in np.atleast_1d(settings[name]).tolist()] for name in self.model_class.searched
        ]
        models = [self.model_class(**{**settings, **dict(chosen)}) for chosen in itertools.product(*searched)]
        for model in models:
            model.check_settings()
        return models

    def _loosened(self, model: LinearModel) -> LinearModel:
        settings = model.get_params(deep=False)
        if "tol" in settings:
            settings["tol"] = max(settings["tol"], self.fold_tol)
        return type(model)(**settings)

    def _strengths(self, model: LinearModel, problem: Problem) -> Array:
        if isinstance(self.alphas, int | np.integer):
            if self.alphas < 1:
                raise RecipeError(f"{type(self).__name__} needs alphas to be one or more, got {self.alphas}.")
            # Constant targets have no largest strength that matters: any will do.
            largest = model.largest_alpha(problem) or 1.0
            return np.geomspace(largest, largest * model.path_span, self.alphas)
        try:
            strengths = np.asarray(self.alphas, dtype=np.float64)
        except (TypeError, ValueError):
            strengths = np.zeros(0)
        if strengths.ndim != 1 or len(strengths) == 0 or not (np.isfinite(strengths) & (strengths > 0)).all():
            raise RecipeError(
                f"{type(self).__name__} needs alphas to be a number of strengths, or a sequence of strengths above "
                f"zero, got {self.alphas!r}."
            )
        return np.sort(strengths)[::-1]

    def _folds(self, rows: TaskRows) -> list[Fold]:
        """Training and held-out rows of each fold."""
        who, cv = type(self).__name__, 5 if self.cv is None else self.cv
        if isinstance(cv, int | np.integer) and rows.form == "tables":
            splits = _split_tables(rows, int(cv), who)
        else:
            try:
                splitter = check_cv(cv)
            except ValueError as error:
                raise RecipeError(f"{who} cannot use cv: {error}") from error
            if rows.form == "tables" and splitter is not cv:
                raise RecipeError(f"{who} needs cv to be a number or a splitter for a list of tables, got {cv!r}.")
            try:
                per_table = [list(splitter.split(x)) for x in rows.inputs]
            except ValueError as error:
                raise TargetError(f"{who} cannot split the rows: {error}") from error
            splits = [tuple(zip(*fold, strict=True)) for fold in zip(*per_table, strict=True)]
        return [(rows.take(train), rows.take(test)) for train, test in splits]


_OWN = ("alphas", "cv", "n_jobs")


@functools.cache
def cross_validated(model_class: type[LinearModel]) -> type[CrossValidated]:
    """The cross-validated version of a model: its settings, with ``alphas``, ``cv`` and ``n_jobs`` for ``alpha``."""
    name = f"{model_class.__name__}CV"
    own = [
        inspect.Parameter("alphas", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=30),
        *(
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value)
            for key, value in (("cv", 5), ("n_jobs", None))
        ),
    ]
    theirs = [
        parameter.replace(kind=parameter.KEYWORD_ONLY, default=model_class.searched.get(key, parameter.default))
        for key, parameter in inspect.signature(model_class).parameters.items()
        if key != "alpha"
    ]
    signature = inspect.Signature([*own, *theirs])

    def __init__(self: CrossValidated, *args: Any, **settings: Any) -> None:
        bound = signature.bind(*args, **settings)
        bound.apply_defaults()
        for key, value in bound.arguments.items():
            setattr(self, key, value)

    # sklearn reads the settings' names from here.
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = inspect.Signature([itself, *signature.parameters.values()])  # type: ignore[attr-defined]
    summary = f":class:`~{model_class.__module__}.{model_class.__name__}` with settings chosen by cross-validation."
    body: Mapping[str, Any] = {
        "__init__": __init__,
        "__doc__": f"{summary}\n\n{inspect.cleandoc(CrossValidated.__doc__ or '')}",
        # Where pickle finds it again: the package makes it when asked for the name.
        "__module__": "polytask.linear",
        "__qualname__": name,
        "model_class": model_class,
    }
    return type(name, (CrossValidated,), dict(body))


def _held_out_errors(model: LinearModel, alphas: Array, patience: int, train: Moments, test: Moments) -> Array:
    """Mean squared error on the held-out labels for each strength, in the problem's units of the targets."""
    problem = Problem.of(train, model.intercept, model.scale)
    unit = problem.frame.scale_y**2
    total = test.weight.sum() or 1.0
    errors = np.full(len(alphas), np.nan)
    for number, solution in enumerate(model.path(problem, alphas.tolist())):
        errors[number] = (test.squared_error(*problem.frame.restore(solution.coefficients)) / unit).sum() / total
        latest = errors[max(number - patience, 0) : number + 1]
        if len(latest) > patience and (np.diff(latest) > 0).all():
            break
    return errors


def _split_tables(rows: TaskRows, n_folds: int, who: str) -> list[tuple[Any, Any]]:
    """Folds of neighbouring observed rows in every task, the first one a different one in each."""
    most = max(int((weight > 0).sum()) for weight in rows.weights)
    if not 2 <= n_folds <= most:
        raise RecipeError(f"{who} needs cv between 2 and the labels of its largest task ({most}), got {n_folds}.")
    fold_of: list[NDArray[np.intp]] = []
    for task, weight in enumerate(rows.weights):
        observed = np.flatnonzero(weight > 0)
        fold = np.full(len(weight), -1)
        fold[observed] = (np.arange(len(observed)) * n_folds // max(len(observed), n_folds) + task) % n_folds
        fold_of.append(fold)
    return [
        (
            [np.flatnonzero((fold != number) & (fold >= 0)) for fold in fold_of],
            [np.flatnonzero(fold == number) for fold in fold_of],
        )
        for number in range(n_folds)
    ]
