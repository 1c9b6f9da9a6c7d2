"""`polytask study --search` on public tables, killed in the middle and gone on with: what it finds, and who waits.

    python bench/shared_tables.py --data FOLDER --out tables
    python bench/searches.py --tables tables --out runs --only oes10 tox21 school

Every row is one ``polytask study`` command, which is printed. The study is killed (SIGKILL) when searches have begun
half of their trials, and gone on with. Workers are *busy* while they are on a core or wait for one, which is what a
machine that others share lets one measure; ``again`` counts the trainings that the kill cost.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from polytask.records import StudyRecord

ASSAYS = "NR-AR,NR-AR-LBD,NR-AhR,NR-Aromatase,NR-ER,NR-ER-LBD,NR-PPAR-gamma,SR-ARE,SR-ATAD5,SR-HSE,SR-MMP,SR-p53"
SMALL = "--holdout 0.2 --repeats 1 --budget none --set encoder='{name: mlp, widths: [64, 64]}'"
STUDIES = {
    "oes10": f"oes10.csv --targets {','.join(f'target-{i + 1}' for i in range(16))} {SMALL} --set training.epochs=30",
    "tox21": f"tox21.csv --targets {ASSAYS} {SMALL} --set training.epochs=3",
    "school": f"school_long.csv --targets score --by school {SMALL} --set training.epochs=5",
}
SEARCHES = ("searched", "tuned_weights")


class Watch:
    """What the workers of a study did between the beginning and the end of its searches."""

    def __init__(self, out: Path, workers: int):
        self.out, self.workers = out, workers
        self.wall = self.on_core = self.waiting = 0.0
        self._last: tuple[float, dict[int, tuple[int, int]]] | None = None

    def begun(self) -> int:
        """Trials that the searches have begun."""
        return sum(path.read_text().count('"op_code":4') for path in self.out.glob("search/*/*.journal"))

    def is_searching(self) -> bool:
        """Whether a search is under way."""
        over = all((self.out / "trials" / arm / "0-0.json").exists() for arm in SEARCHES)
        return bool(self.begun()) and not over

    def look(self, parent: int) -> None:
        """Add up what happened since it was looked at last."""
        if not self.is_searching():
            self._last = None
            return
        now, seen = time.monotonic(), times_of(parent)
        if self._last is not None:
            then, before = self._last
            self.wall += now - then
            for process in seen.keys() & before.keys():
                self.on_core += (seen[process][0] - before[process][0]) / 1e9
                self.waiting += (seen[process][1] - before[process][1]) / 1e9
        self._last = now, seen

    def again(self) -> None:
        """The processes are others from now on."""
        self._last = None

    @property
    def busy(self) -> float:
        """Share of the workers' time in which they were on a core or waited for one."""
        return (self.on_core + self.waiting) / (self.workers * self.wall)


def times_of(parent: int) -> dict[int, tuple[int, int]]:
    """Of each worker, nanoseconds on a core and waiting for one."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_child = int((path / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and "spawn_main" in (path / "cmdline").read_text():
                on_core, waiting, _ = (path / "schedstat").read_text().split()
                found[int(path.name)] = int(on_core), int(waiting)
        except (OSError, ValueError):
            continue
    return found


def run(name: str, asked: argparse.Namespace) -> None:
    """One study, killed once, and its row."""
    out, trials = asked.out / name, asked.trials
    given = shlex.split(STUDIES[name])
    given[0] = str(asked.tables / given[0])
    given += ["--arms", asked.arms, "--search", "--trials", str(trials), "--workers", str(asked.workers)]
    command = [sys.executable, "-m", "polytask.cli", "study", *given, "--out", str(out)]
    print("polytask " + shlex.join(command[3:]), flush=True)
    watch, killed_at = Watch(out, asked.workers), 0
    for attempt in ("killed", "whole"):
        process = subprocess.Popen(
            command + ([] if attempt == "killed" else ["--resume"]), stdout=subprocess.DEVNULL, stderr=asked.log
        )
        while process.poll() is None:
            watch.look(process.pid)
            if attempt == "killed" and watch.begun() >= trials:
                killed_at = watch.begun()
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.25)
        if (status := process.wait()) and attempt == "whole":
            raise SystemExit(f"{name}: exit status {status}")
        watch.again()
    record = StudyRecord.from_json(json.loads((out / "study.json").read_text()))
    done = sum(fold["done"] for arm in SEARCHES for fold in record.search[arm]["folds"])
    again = watch.begun() - done
    print(row(name, record, watch) + f" {killed_at} of {done} | {again} |", flush=True)


def row(name: str, record: StudyRecord, watch: Watch) -> str:
    """The study in a row: errors on test rows, errors on inner rows, and time."""
    cells = [name, str(len(record.tasks))]
    for arm in ("joint", "single", "linear", *SEARCHES):
        found = record.arms.get(arm)
        values = [interval.mean for interval in found.error.values() if interval.mean is not None] if found else []
        cells.append(f"{np.mean(values):.3f}" if values else "-")
    for arm in SEARCHES:
        fold = record.search[arm]["folds"][0]
        start = "-" if fold["start"] is None else f"{fold['start']:.3f}"
        cells.append(f"{start} to {fold['best']['score']:.3f}, {fold['pruned']} cut short")
    cells += [f"{watch.wall:.0f}", f"{watch.on_core:.0f}", f"{watch.busy:.2f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="what bench/shared_tables.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--arms", default="joint,single,linear")
    parser.add_argument("--log", type=argparse.FileType("w"), default=subprocess.DEVNULL, help="what the studies say")
    asked = parser.parse_args()
    print(
        "| table | tasks | joint | single | linear | searched | tuned_weights | searched, inner rows | tuned, "
        "inner rows | wall s | CPU s | busy | killed at | again |\n" + "|---" * 14 + "|"
    )
    for name in asked.only:
        run(name, asked)


if __name__ == "__main__":
    main()
