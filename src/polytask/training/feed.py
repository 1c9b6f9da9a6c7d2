"""The batches of a training, step by step."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace

from polytask.data.batch import Batch, Source
from polytask.data.plan import BatchPlan, Draw
from polytask.data.reading import read_ahead
from polytask.shapes import Int, Tensor
from polytask.training.ranks import Ranks, here
from polytask.training.variation import Variation

__all__ = ["Feed"]


class Feed:
    """Reads what the plan draws, and varies it.

    Args:
        sources: Training sources by name.
        plan: Which rows of which source each draw has.
        draws_per_step: Draws of the plan that make one step: 1, or as many as there are sources, which the plan then
            gives in turn, so that the balancer sees the tasks of all sources at once.
        variation: How the batches are varied; they are not if ``None``.
        seconds: How long reading a batch may take; as long as it takes if ``None``.
        ahead: Batches of sources that are not in memory that are read while the network computes; the very batches
            that would come without it, and the plan's place stays that of the batches that were used.
        ranks: In data parallel, who else reads a part of each batch.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        plan: BatchPlan,
        draws_per_step: int = 1,
        variation: Variation | None = None,
        seconds: float | None = None,
        ahead: int = 0,
        ranks: Ranks | None = None,
    ):
        self.sources, self.plan, self.draws_per_step, self.variation = sources, plan, draws_per_step, variation
        self.seconds, self.ahead, self.ranks = seconds, ahead, ranks or here()

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return self.plan.n_steps // self.draws_per_step

    def epoch(self, step: int) -> Iterator[list[Batch]]:
        """The batches of each step that is left of the plan's epoch.

        Args:
            step: Number of the first of them, counted over the whole training: what varies a batch depends on it.
        """
        coming = self._coming()
        while together := list(itertools.islice(coming, self.draws_per_step)):
            for draw, _ in together:
                self.plan.passed(draw)
            batches = [batch for _, batch in together]
            yield batches if self.variation is None else self.variation(batches, step)
            step += 1
        self.plan.end_epoch()

    def _coming(self) -> Iterator[tuple[Draw, Batch]]:
        """What is left of the epoch, some of it read before it is asked for."""
        drawn: deque[tuple[Draw, float]] = deque()

        def asked() -> Iterator[tuple[Source, Int[Tensor, " B"]]]:
            for draw in self.plan.coming():
                rows, part = self.ranks.share(draw.rows)
                drawn.append((draw, part))
                yield self.sources[draw.source], rows

        for batch in read_ahead(asked(), self.ahead, self.seconds):
            draw, part = drawn.popleft()
            yield draw, batch if part == 1.0 else replace(batch, part=part)
