"""The same study by every engine and number of workers: are the records equal, and how long does each take?

    python bench/engines.py
    python bench/engines.py --rows 2000 --folds 5 --kill

With --kill, a worker of each engine that has several is killed (SIGKILL) in the middle of the study.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from polytask.data.generators import related_regressions
from polytask.study import Protocol, Study

TIMES = ("seconds", "made", "engine")
ARM_TIMES = ("seconds", "predict_seconds")


def timeless(record: dict[str, Any]) -> str:
    """The record as text, without times and without where it was trained."""
    arms = {arm: {k: v for k, v in found.items() if k not in ARM_TIMES} for arm, found in record["arms"].items()}
    return json.dumps({**{k: v for k, v in record.items() if k not in TIMES}, "arms": arms}, sort_keys=True)


class Killer:
    """Kills a process that works on a trial, as the kernel does when the memory is used up, once some are done."""

    def __init__(self, after: int):
        self.after = after
        self._thread = threading.Thread(target=self._kill, daemon=True)

    def __call__(self, title: str, done: int, total: int) -> None:
        if done >= self.after and self._thread.ident is None:
            self._thread.start()

    def _kill(self) -> None:
        while True:
            for path in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError, ValueError):
                    parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                    doing = (path / "cmdline").read_text()
                    # Ray names its processes after what they do.
                    if (parent == os.getpid() and "spawn_main" in doing) or "ray::_carry_out" in doing:
                        os.kill(int(path.name), signal.SIGKILL)
                        return
            time.sleep(0.005)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    made = related_regressions(4, arguments.rows)
    engines: list[dict[str, Any]] = [{"name": "local", "workers": 1}, {"name": "local", "workers": 2}]
    if importlib.util.find_spec("ray"):
        engines.append({"name": "ray", "workers": 2})
    else:
        print("ray is left out: pip install 'polytask[ray]'.")
    print(f"{'engine':<10}{'workers':>8}{'wall s':>8}{'trials s':>10}{'deaths':>8}  record as the first one's")
    first = ""
    for engine in engines:
        killer = Killer(after=4) if arguments.kill and engine["workers"] > 1 else None
        began = time.perf_counter()
        study = Study(
            made.frame, list(made.targets), arms=["joint", "single", "linear", "boosting", "forest"],
            protocol=Protocol(folds=arguments.folds), engine=engine, training={"epochs": arguments.epochs},
            listener=killer,
        )  # fmt: skip
        record = study.run().to_json()
        took = time.perf_counter() - began
        first = first or timeless(record)
        same = "equal" if timeless(record) == first else "DIFFERENT"
        deaths = len(record["engine"]["deaths"])
        print(
            f"{engine['name']:<10}{engine['workers']:>8}{took:>8.1f}{record['seconds']:>10.1f}{deaths:>8}  {same}",
            flush=True,
        )


if __name__ == "__main__":
    main()
