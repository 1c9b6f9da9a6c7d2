"""What each two tasks gain by being learned together, by training every pair."""

from __future__ import annotations

import time
from itertools import combinations
from typing import ClassVar

import numpy as np

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Measure, Reading
from polytask.affinity.measures._representation import with_sources
from polytask.training.evaluation import constant_losses

__all__ = ["PairwiseGain"]


class PairwiseGain(Measure):
    r"""The gain of task j by being learned together with i, on validation rows.

    .. math:: A_{ij} = \frac{L_j(\{j\}) - L_j(\{i, j\})}{L_{0j}}

    where :math:`L_j(g)` is the validation loss of the network of the tasks g, and :math:`L_{0j}` that of the constant
    prediction: the difference in the share of the constant's loss that is taken away.

    Example:
        >>> from polytask.affinity import measure_affinity
        >>> from polytask.data.generators import related_regressions
        >>> made = related_regressions(2, 200, relatedness=1.0)
        >>> options = {"seeds": 1, "training": {"epochs": 2}}
        >>> measure_affinity(made.frame, list(made.targets), "pairwise_gain", **options).cost["trainings"]
        3

    Note:
        Directed, and the thing itself for two tasks; for more it is still an assumption that effects of pairs add up.
        It costs T (T + 1) / 2 trainings: within a limit of time, pairs are trained in random order until it is over and
        the rest is not known. Each seed reads all rows, because a gain depends on their number; its spread is that of
        trainings only. Networks stop early by the rows on which they are compared, all alike.

    References:
        Standley, Zamir, Chen, Guibas, Malik and Savarese, "Which tasks should be learned together in multi-task
        learning?", ICML 2020, section 5.2 (higher-order approximation).
    """

    words: ClassVar[str] = "share of the constant prediction's loss of j that learning with i takes away in addition"
    directed: ClassVar[bool] = True
    halves: ClassVar[bool] = False

    def read(self, ground: Ground) -> Reading:
        """The matrix for one training of each pair."""
        began = time.monotonic()
        names = ground.names
        values = np.full((len(names), len(names)), np.nan)
        alone, without = with_sources(ground)
        constant = constant_losses(ground.tasks, ground.prepared.validation)
        losses_alone = {name: ground.held_out_losses(fitted, [name]).get(name) for name, fitted in alone.items()}
        pairs = [(i, j) for i, j in combinations(range(len(names)), 2) if names[i] in alone and names[j] in alone]
        left = 0
        for i, j in (pairs[k] for k in np.random.default_rng(ground.seed).permutation(len(pairs))):
            if ground.seconds is not None and time.monotonic() - began > ground.seconds:
                left += 1
                continue
            pair = [names[i], names[j]]
            losses = ground.held_out_losses(ground.trained(pair), pair)
            for helper, helped in ((i, j), (j, i)):
                name = names[helped]
                before, after, scale = losses_alone[name], losses.get(name), constant.get(name, 0.0)
                if before is not None and after is not None and scale > 0:
                    values[helper, helped] = (before - after) / scale
        return Reading(values, self._notes(ground, values, without, left, len(pairs)))

    def _notes(
        self, ground: Ground, values: np.ndarray, without: list[str], left: int, n_pairs: int
    ) -> tuple[str, ...]:
        notes = []
        if len(ground.names) < 2:
            notes.append("There is one task only, so there is no pair.")
        if left:
            notes.append(f"{left} of {n_pairs} pairs were not trained within {ground.seconds:.0f} s.")
        if without:
            notes.append(f"{', '.join(without)}: no training label, so no network.")
        if np.isnan(values[~np.eye(len(values), dtype=bool)]).any() and not left and not without:
            notes.append("Some tasks have no validation label, so what they gain is not known.")
        return tuple(notes)
