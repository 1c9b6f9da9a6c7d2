"""Search inside the training rows of a fold, and the network of what it found."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from polytask.errors import MissingExtraError, NonFiniteError, RecipeError
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.inner import inner_errors, inner_folds, why_not_divide
from polytask.study.networks import best_epochs, conflict_of, curves_of, train, weights_of
from polytask.study.pareto import dominated
from polytask.study.space import Space, plan_with
from polytask.training.evaluation import constant_losses
from polytask.training.run import fit

__all__ = ["SearchArm"]

_STARTUP = 10
"""So many trials are drawn at random before the sampler learns from them."""
_UNTIL_PRUNED = 5
"""No training is cut short in so many first epochs, nor before so many trials are done."""

Record = dict[str, Any]


class SearchArm(Arm):
    """An arm that searches its settings inside each fold: what is searched is all that two of them differ in.

    The search sees training rows only: it divides them once more, three quarters to train and a quarter to judge.
    What it finds is trained on all of them, and chosen and tested like any other arm.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Raises:
        MissingExtraError: If Optuna is not installed.
    """

    role: ClassVar[str] = "joint"
    reads_sources: ClassVar[bool] = True

    def __init__(self, name: str):
        super().__init__(name)
        if find_spec("optuna") is None:
            raise MissingExtraError(f"The arm {name!r}", "optuna", "search")

    @abstractmethod
    def space(self, fold: FoldData) -> Space:
        """What is searched on a fold."""

    def why_not(self, fold: FoldData) -> str:
        """There must be several tasks, and rows to judge by."""
        return "there is one task only, so nothing is learned jointly" if len(fold.tasks) < 2 else why_not_divide(fold)

    def fit(self, fold: FoldData, settled: Mapping[str, Any] | None = None) -> FittedArm:
        """Search, unless earlier folds settled what is to be found, and train what was found."""
        known = settled if settled is not None else fold.terms.given.get(self.name)
        found: Record = {}
        earlier = 0.0
        if known is None:
            search = _Search(self.name, fold, self.space(fold))
            found, earlier = search.run(), search.earlier
            known = {"configuration": found["best"]["configuration"], "score": found["best"]["score"]}
        began = time.perf_counter()
        plan = plan_with(fold.plan, known["configuration"])
        fitted = train(fold, plan, self.name, known.get("epochs"))
        names = [task.name for task in fold.tasks]
        if found:
            found["seconds_of_winner"] = round(time.perf_counter() - began, 3)
        return FittedArm(
            fitted.bundle.networks,
            settled={"configuration": known["configuration"], "score": known["score"], "epochs": best_epochs(fitted)},
            curves=curves_of(fitted.history, names),
            weights=weights_of(fitted.history, names) if plan.balancer not in ("equal", "fixed") else {},
            conflict=conflict_of(fitted.history),
            search=found,
            earlier=earlier,
            notes=fitted.notes,
        )


class _Search:
    """One search: each trial a training on three quarters of the training rows, judged by the fourth.

    The k-th trial depends on the seed and on the trials before it alone, so that a search that is gone on with ends as
    if it had never been interrupted.
    """

    def __init__(self, name: str, fold: FoldData, space: Space):
        self.name, self.fold, self.space, self.terms = name, fold, space, fold.terms
        self.inner = inner_folds(fold)[0]
        self.by_task = self.terms.objective == "tasks"
        constant = constant_losses(self.inner.tasks, self.inner.prepared.validation)
        # An error is relative to the constant's: without labels, or where the constant makes none, there is none.
        self.constant = {task: loss for task, loss in constant.items() if loss > 0}
        self.tasks = list(self.constant)
        self.earlier = 0.0
        """Seconds of the trials that a process before this one did."""

    def run(self) -> Record:
        """Try until the trials or the time are used up."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=self._storage(),
            study_name=self.name,
            load_if_exists=True,
            directions=["minimize"] * (len(self.tasks) if self.by_task else 1),
            pruner=optuna.pruners.MedianPruner(_UNTIL_PRUNED, _UNTIL_PRUNED),
        )
        over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        for left in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(left.number, state=optuna.trial.TrialState.FAIL)  # by a process that was killed; tried anew
        self.earlier = _seconds_of(study.get_trials(deepcopy=False, states=over))
        while (n_done := len(done := study.get_trials(deepcopy=False, states=over))) < self.terms.trials:
            if self._is_out_of_time(done):
                break
            seed = _mixed(self.fold.seed, n_done)
            study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)
            waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
            if n_done == 0 and not waiting:  # a process that was killed may have left the start in the journal
                study.enqueue_trial(self.space.start())
            self._tell(done)
            self._try(study, study.ask())
        return self._found(study.get_trials(deepcopy=False, states=over))

    def _storage(self) -> Any:
        """A journal in the study's folder, which one process at a time writes; the memory if there is no folder."""
        import optuna

        if self.terms.folder is None:
            return None
        path = self.terms.folder / self.name / f"{self.fold.where}.journal"
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend(path)
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(str(path)))

    def _try(self, study: Any, trial: Any) -> None:
        import optuna

        began = time.perf_counter()
        configuration = self.space.choose(trial)
        trial.set_user_attr("configuration", configuration)
        try:
            errors = self._train(trial, configuration)
        except optuna.TrialPruned:
            trial.set_user_attr("why", "behind the median of the trials before it")
            errors = None
        except (NonFiniteError, RecipeError) as error:
            # It diverged, or its parts do not go together, such as a balancer of gradients where nothing is shared.
            trial.set_user_attr("why", str(error))
            errors = None
        trial.set_user_attr("seconds", round(time.perf_counter() - began, 3))
        if errors is None:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            trial.set_user_attr("errors", errors)
            study.tell(trial, list(errors.values()) if self.by_task else float(np.mean(list(errors.values()))))

    def _train(self, trial: Any, configuration: Mapping[str, Any]) -> dict[str, float]:
        import optuna

        plan = plan_with(self.inner.plan, configuration)
        plan = replace(plan, settings=replace(plan.settings, seed=self.fold.seed))

        def watch(training: Any, batches: Any) -> None:
            epoch = len(training.at.validation) - 1
            if epoch < 0 or epoch in reported or self.by_task:
                return
            reported.add(epoch)
            losses = training.at.validation[epoch]
            trial.report(float(np.mean([losses[task] / self.constant[task] for task in self.tasks])), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        reported: set[int] = set()
        fitted = fit(self.inner.prepared, plan, title=self.name, watch=watch)
        errors = inner_errors(self.inner, fitted.bundle.networks)
        return {task: errors[task] for task in self.tasks}

    def _tell(self, done: Sequence[Any]) -> None:
        if self.terms.tell is not None:
            scores = [
                np.mean(list(trial.user_attrs["errors"].values())) for trial in done if "errors" in trial.user_attrs
            ]
            best = f", best error {min(scores):.3f}" if scores else ""
            self.terms.tell(f"{len(done)} of {self.terms.trials} tried{best}")

    def _is_out_of_time(self, done: Sequence[Any]) -> bool:
        return bool(done) and self.terms.seconds is not None and _seconds_of(done) >= self.terms.seconds

    def _found(self, trials: Sequence[Any]) -> Record:
        whole = [trial for trial in trials if "errors" in trial.user_attrs]
        if not whole:
            raise NonFiniteError(f"{self.name}: none of {len(trials)} trials could be trained to its end.")
        kept = [
            {
                "configuration": trial.user_attrs["configuration"],
                "errors": trial.user_attrs["errors"],
                "score": float(np.mean(list(trial.user_attrs["errors"].values()))),
            }
            for trial in whole
        ]
        table = np.array([[trial["errors"][task] for task in self.tasks] for trial in kept])
        for trial, is_behind in zip(kept, dominated(table), strict=True):
            trial["is_on_front"] = not is_behind
        best = min(kept, key=lambda trial: trial["score"])
        return {
            "where": "the training rows of each fold",
            "objective": self.terms.objective,
            "asked": self.terms.trials,
            "done": len(trials),
            "pruned": len(trials) - len(whole),
            "rows": [
                sum(map(len, sources.values()))
                for sources in (self.inner.prepared.train, self.inner.prepared.validation)
            ],
            "space": self.space.describe(),
            "start": kept[0]["score"] if trials[0] is whole[0] else None,
            "best": best,
            "trials": kept,
        }


def _seconds_of(trials: Sequence[Any]) -> float:
    return float(sum(trial.user_attrs["seconds"] for trial in trials))


def _mixed(seed: int, number: int) -> int:
    """A seed of its own for each trial."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _mend(path: Path) -> None:
    """Take away what a process that was killed left: half of a last line, and the lock that it held."""
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink(missing_ok=True)
    if path.exists():
        text = path.read_bytes()
        if (whole := text.rfind(b"\n") + 1) < len(text):
            with path.open("rb+") as file:
                file.truncate(whole)
