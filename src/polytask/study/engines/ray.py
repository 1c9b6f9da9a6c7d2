"""Ray: the processors of this machine, or of a cluster."""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Iterator
from typing import Any

from polytask.study.bench import Bench, Done, Work
from polytask.study.engine import Engine, answer, first, opened, read
from polytask.training.on_ray import import_ray, join_cluster

__all__ = ["Ray"]

_bench: tuple[str, Bench] | None = None
"""In a worker: the bench that was used last, and which one that is."""


class Ray(Engine):
    """Ray's workers: on this machine, started for the study, or on a cluster that runs already.

    The data go into Ray's object store once, and each worker takes them from there once. Ray reports nothing to its
    makers, and what is started for the study has no dashboard and listens on the loopback address only (unless the
    program imported Ray before, which then has decided on its addresses).

    Args:
        workers: Units at a time; as many as there are processors for, here or in the cluster, if ``None``.
        threads: Threads of each, which is as many processors as it reserves.
        address: Of a cluster: ``auto``, ``host:port`` or ``ray://host:port``; none is looked for if ``None``.

    Raises:
        MissingExtraError: If Ray is not installed.

    Note:
        The machines of a cluster need the same polytask; that their processors and libraries give the same last digits
        is theirs to keep. Starting takes 5 to 7 seconds.

    References:
        Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, OSDI 2018.
    """

    def __init__(self, workers: int | None = None, threads: int = 1, address: str | None = None):
        super().__init__(workers, threads)
        self._asked, self.address = workers, address
        self._ray = import_ray("The engine 'ray'", address)
        self._material: Any = None

    def open(self, bench: Bench) -> None:
        """Start Ray, or join the cluster, and put the material into its object store."""
        ray = self._ray
        if self.address is None:
            ray.init(
                address="local",
                num_cpus=self.workers * self.threads,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            join_cluster(ray, self.address)
            if self._asked is None:
                self.workers = max(int(ray.cluster_resources().get("CPU", 1)) // self.threads, 1)
        self._material = ray.put(pickle.dumps(bench.material, protocol=pickle.HIGHEST_PROTOCOL))
        self._remote = ray.remote(num_cpus=self.threads, max_retries=0)(_carry_out)

    def carry_out(self, units: Iterator[Work]) -> Iterator[tuple[Work, Done]]:
        """Units as they are finished."""
        ray = self._ray
        busy: dict[Any, tuple[Work, int]] = {}
        again: deque[tuple[Work, int]] = deque()
        while True:
            while len(busy) < self.workers:
                if (wanted := again.popleft() if again else first(units)) is None:
                    break
                unit, attempts = wanted
                # In a list, so that Ray hands on the reference, and a worker that has the material need not read it.
                busy[self._remote.remote([self._material], unit, self.threads)] = unit, attempts + 1
            if not busy:
                return
            done, _ = ray.wait(list(busy), num_returns=1)
            unit, attempts = busy.pop(done[0])
            try:
                packed: bytes = ray.get(done[0])
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:
                again.append((unit, attempts))
                self.died(unit, attempts, type(error).__name__)
            else:
                found = read(packed)
                assert not isinstance(found, str)
                yield unit, found

    def close(self) -> None:
        """Leave the cluster; what was started for the study is stopped."""
        if self._material is not None:
            self._material = None
            self._ray.shutdown()


def _carry_out(material: list[Any], unit: Work, threads: int) -> bytes:
    """In a worker: a unit, with the material that is there already, or taken from the object store."""
    import ray

    global _bench
    key = material[0].hex()
    if _bench is None or _bench[0] != key:
        _bench = key, opened(ray.get(material[0]))
    return answer(_bench[1], unit, threads)
