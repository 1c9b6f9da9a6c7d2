"""Kill -9 at random moments, and whether what goes on afterwards ends as if nothing had happened, bit for bit.

    python bench/kills.py --kills 500

Every life is a job in a folder: it is killed, gone on with, killed again, until it ends by itself; then everything that
it left is compared with what a job left that nobody disturbed: parameters, history, record, and the last checkpoint
(optimiser, balancer, sampler, generators). After each kill every file that has its final name has to be whole.

Half of the kills (all of an export, which takes millions of calls) come from outside, by the clock. The others are at
the n-th call or return, of Python or of C, within a part of the work (loading, a step, a checkpoint ...), so that rare
parts are hit as often as long ones, and a kill can be repeated: it is named by job, part and n. Processes are forked
from this one, which has everything loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a forked process has none of its parent's threads

import numpy as np
import pandas as pd
import torch

from polytask import Recipe, load
from polytask.bundle import Bundle
from polytask.data.batch import ArraySource
from polytask.data.plan import BatchPlan
from polytask.serving.export import export
from polytask.serving.export import run as run_graph
from polytask.serving.streaming import predict_file
from polytask.storage import is_half, load_tree
from polytask.study import Protocol, Study, store, trials
from polytask.training import running
from polytask.training.loop import Training
from polytask.training.run_folder import RunFolder

MOST_KILLS = 4
"""Of one life; after these it is left to end."""

PARTS: dict[str, tuple[Callable[..., Any], ...]] = {
    "loading": (running.prepare_recipe, ArraySource.batch, BatchPlan.epoch),
    "step": (Training.step,),
    "end of an epoch": (Training.end_epoch,),
    "checkpoint": (RunFolder.save_checkpoint, RunFolder.append_history, RunFolder.truncate_history),
    "bundle": (Bundle.save,),
    "trial": (trials.train_trials, store.keep_trial, store.keep_fold),
    "export": (export,),
    "prediction": (predict_file,),
}
"""Parts of the work by the functions that do them; the outermost counts."""


def table(n: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    price = x @ [1.0, -1.0, 0.5] + rng.normal(size=n)
    price[rng.random(n) < 0.4] = np.nan
    ill = np.where(x[:, 0] + rng.normal(size=n) > 0, "yes", "no")
    town = np.where(x[:, 2] > 0, "high", "low")
    size = rng.normal(size=n) + x[:, 1]
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": town, "price": price, "ill": ill, "size": size})


QUICK = {"name": "tabular", "width": 8, "n_blocks": 1, "embedding_width": 2, "dropout": 0.3}
TRAINING = {"epochs": 2, "batch_size": 16, "checkpoint_seconds": 0.0}
TASKS = {"price": "regression", "ill": "binary", "size": "regression"}


class Job:
    """Something that is done in a folder, and what it left there."""

    is_long = False

    def __init__(self, name: str, given: Path):
        self.name, self.given = name, given

    def do(self, folder: Path) -> None:
        """Begin or go on."""
        raise NotImplementedError

    def left(self, folder: Path) -> Any:
        """What the job left, without clocks."""
        raise NotImplementedError


class Fit(Job):
    """A training of a recipe from files."""

    def __init__(self, name: str, given: Path, **settings: Any):
        super().__init__(name, given)
        files = {part: given / f"{part}.csv" for part in ("data", "first", "second")}
        data = settings.pop("data", {"data": {}})
        data = {part: {**spec, "path": str(files[part])} for part, spec in data.items()}
        self.recipe = Recipe(**{"tasks": TASKS, "data": data, "encoder": QUICK, "training": TRAINING, **settings})

    def do(self, folder: Path) -> None:
        self.recipe.run(out=folder / "run", resume=True)

    def left(self, folder: Path) -> Any:
        run = folder / "run"
        state = load_tree(run / "checkpoint")
        _without(state, "seconds")
        history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        record = json.loads((run / "record.json").read_text())
        record["notes"] = [note for note in record["notes"] if "went on from its checkpoint" not in note]
        return plain([_without(record, "seconds"), _without(history, "seconds"), state, _models(run / "bundle")])


class AStudy(Job):
    """A study of a table."""

    def do(self, folder: Path) -> None:
        study = Study(
            self.given / "data.csv",
            ["price", "ill"],
            arms=["joint", "linear"],
            protocol=Protocol(folds=2),
            out=folder / "run",
            resume=True,
            encoder={**QUICK, "dropout": 0.1},
            training={"epochs": 1, "batch_size": 32},
            balancer="pcgrad",
        )
        study.run()

    def left(self, folder: Path) -> Any:
        record = json.loads((folder / "run" / "study.json").read_text())
        _without(record, "seconds", "predict_seconds", "made", "engine")
        return plain([record, _models(folder / "run" / "bundle")])


class AnExport(Job):
    """A trained network written as a program of torch.export."""

    is_long = True

    def do(self, folder: Path) -> None:
        if not (folder / "graph" / "graph.pt2").exists():  # or it was killed after its last act
            export(load(self.given / "bundle"), folder / "graph", "torch")

    def left(self, folder: Path) -> Any:
        about = json.loads((folder / "graph" / "graph.json").read_text())
        rows = (torch.ones(3, 2), torch.ones(3, 1, dtype=torch.int64))
        answers = run_graph(folder / "graph" / "graph.pt2", rows)
        return plain([_without(about, "sha256"), *answers])


class APrediction(Job):
    """The answers for a file, in pieces."""

    def __init__(self, name: str, given: Path, ending: str):
        super().__init__(name, given)
        self.ending = ending

    def do(self, folder: Path) -> None:
        out = folder / f"answers.{self.ending}"
        predict_file(load(self.given / "bundle"), self.given / f"many.{self.ending}", out, piece=60, resume=True)

    def left(self, folder: Path) -> Any:
        return (folder / f"answers.{self.ending}").read_bytes()


def _without(node: Any, *names: str) -> Any:
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _without(value, *names)
    if isinstance(node, dict):
        for name in names:
            node.pop(name, None)
    return node


def _models(bundle: Path) -> Any:
    return [load_tree(path) for path in sorted(bundle.glob("*.safetensors"))]


def plain(node: Any) -> Any:
    """Tensors as bytes, so that equal means equal bit for bit."""
    if isinstance(node, torch.Tensor):
        return (str(node.dtype), tuple(node.shape), node.contiguous().view(torch.uint8).numpy().tobytes()
                if node.ndim else node.item())  # fmt: skip
    if isinstance(node, np.ndarray):
        return (str(node.dtype), node.shape, node.tobytes())
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return repr(node) if isinstance(node, float) else node


def jobs(given: Path) -> list[Job]:
    """Every kind of work, with every kind of state."""
    frame = table()
    frame.to_csv(given / "data.csv", index=False)
    frame.drop(columns=["ill", "size"]).to_csv(given / "first.csv", index=False)
    table(40, 1).rename(columns={"a": "other"}).drop(columns="price").to_csv(given / "second.csv", index=False)
    many = table(300, 2).drop(columns=list(TASKS))
    many.to_csv(given / "many.csv", index=False)
    many.to_parquet(given / "many.parquet", index=False)
    small = Recipe(tasks=TASKS, encoder=QUICK, training={"epochs": 1}).run(frame)
    small.bundle.save(given / "bundle")
    several = {"first": {"augment": ["mixup", "noise"]}, "second": {"own_norms": True}}
    stages = {"name": "sequential", "order": ["price", "ill", "size"], "remedies": ["replay"]}
    bounds = ["size.loss<=0.8", "ill.recall>=0.9"]
    plateau = {"optimiser": "adam", "schedule": "plateau", "patience": 2}
    return [
        Fit("gradients weighed by pcgrad", given, balancer="pcgrad"),
        Fit("two sources, rlw", given, data=several, balancer="rlw", sampler="annealed"),
        Fit("constraints, uncertainty", given, balancer="uncertainty", constraints=bounds),
        Fit("stages with replay, famo", given, schedule=stages, balancer="famo", training={**TRAINING, "epochs": 1}),
        Fit("gradnorm, plateau", given, balancer="gradnorm", training={**TRAINING, **plateau}),
        AStudy("study", given),
        AnExport("export", given),
        APrediction("predictions as CSV", given, "csv"),
        APrediction("predictions as Parquet", given, "parquet"),
    ]


class Calls:
    """Counts calls and returns by part of the work, and kills this process at one of them.

    Args:
        part: Where to die, or ``None`` to count only.
        at: At which call or return in it.
    """

    def __init__(self, part: str | None = None, at: int = 0):
        self.part, self.at = part, at
        self.count: Counter[str] = Counter()
        self._of: dict[CodeType, str] = {f.__code__: part for part, fs in PARTS.items() for f in map(_bare, fs)}
        self._now, self._root = "between", None

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if self._root is None:
            if event == "call" and frame.f_code in self._of:
                self._now, self._root = self._of[frame.f_code], frame
        elif event == "return" and frame is self._root:
            self._now, self._root = "between", None
        self.count[self._now] += 1
        if self._now == self.part and self.count[self._now] == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def _bare(function: Callable[..., Any]) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def forked(work: Callable[[], None], errors: Path, seconds: float | None = None) -> int:
    """Do the work in a process of its own, killed after so many seconds; its exit status, or the signal below 0."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with errors.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                work()
            status = 0
        except BaseException:
            errors.write_text(traceback.format_exc())
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def watched(calls: Calls) -> Iterator[None]:
    sys.setprofile(calls)
    try:
        yield
    finally:
        sys.setprofile(None)


def check_whole(folder: Path) -> None:
    """Every file that has its final name is whole: nobody can read half of one."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors" or path.name == "checkpoint":
            load_tree(path)
        elif path.suffix == ".parquet":
            pd.read_parquet(path)
        elif path.name == "bundle.json":
            load(path.parent)


@dataclass(frozen=True)
class Moment:
    """After so many seconds, or at a call of a part; never, if neither is given."""

    seconds: float | None = None
    part: str = ""
    call: int = 0

    def __str__(self) -> str:
        return f"{self.part}, call {self.call}" if self.part else f"after {self.seconds} s" if self.seconds else "not"


@dataclass
class Result:
    """What the kills came to."""

    kills: Counter[str] = field(default_factory=Counter)
    by_job: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    seconds: float = 0.0


class Killer:
    """Kills jobs and compares what they left.

    Args:
        folder: For everything.
        seed: Of the moments.
    """

    def __init__(self, folder: Path, seed: int):
        self.folder, self.dice = folder, random.Random(seed)
        (folder / "given").mkdir()
        self.jobs = jobs(folder / "given")
        self.result = Result()
        # The last checkpoint of a training is compared too.
        RunFolder.drop_checkpoint = lambda self: None  # type: ignore[method-assign]
        self.whole = {job.name: self._undisturbed(job) for job in self.jobs}

    def _undisturbed(self, job: Job) -> tuple[Any, Counter[str], float]:
        """What is left, the calls of each part, and the time."""
        whole = self.folder / "whole"
        for n in (0,) if job.is_long else (0, 1):  # the first one loads what the forked processes need
            began = time.monotonic()
            job.do(whole / str(n) / job.name)
            took = time.monotonic() - began
        left = job.left(whole / "0" / job.name)
        if job.is_long:
            return left, Counter(), took
        if job.left(whole / "1" / job.name) != left:
            raise SystemExit(f"{job.name}: done twice, it differs without any kill.")
        counted = self.folder / "counted"

        def count() -> None:
            calls = Calls()
            with watched(calls):
                job.do(whole / "counted" / job.name)
            counted.write_text(json.dumps(calls.count))

        if forked(count, self.folder / "errors"):
            raise SystemExit((self.folder / "errors").read_text())
        return left, Counter(json.loads(counted.read_text())), took

    def _moment(self, counts: Counter[str], took: float) -> Moment:
        """When to kill next: by the clock, or in the part that was hit least."""
        parts = [part for part in counts if part != "between"]
        if not parts or self.dice.random() < 0.5:
            return Moment(seconds=self.dice.uniform(0.0, 1.2 * took))
        part = min(parts, key=lambda part: (self.result.kills[part], self.dice.random()))
        return Moment(part=part, call=self.dice.randrange(1, counts[part] + 1))

    def live(self, job: Job) -> None:
        """One life of a job: killed, gone on with, until it ends."""
        folder = self.folder / "life"
        expected, counts, took = self.whole[job.name]
        moments: list[str] = []
        try:
            for kill in range(MOST_KILLS + 1):
                moment = self._moment(counts, took) if kill < MOST_KILLS else Moment()
                moments.append(str(moment))

                def work(moment: Moment = moment) -> None:
                    with watched(Calls(moment.part, moment.call)) if moment.part else contextlib.nullcontext():
                        job.do(folder)

                status = forked(work, self.folder / "errors", moment.seconds)
                if status not in (0, -signal.SIGKILL):
                    raise AssertionError((self.folder / "errors").read_text())
                check_whole(folder)
                if status == 0:
                    break
                self.result.kills[moment.part or "by the clock"] += 1
                self.result.by_job[job.name] += 1
            if litter := [path.name for path in folder.rglob("*") if is_half(path)]:
                raise AssertionError(f"Half-written files were left: {litter}")
            if job.left(folder) != expected:
                raise AssertionError("What it left differs from what an undisturbed one leaves.")
        except BaseException as error:
            print(f"{job.name}, killed {'; '.join(moments)}: {error}", file=sys.stderr)
            raise SystemExit(1) from error
        shutil.rmtree(folder)
        self.result.lives += 1

    def run(self, kills: int) -> Result:
        """Lives of all jobs in turn, the long ones less often, until each was killed and there were so many kills."""
        began = time.monotonic()
        turn = 0
        while sum(self.result.kills.values()) < kills or len(self.result.by_job) < len(self.jobs):
            job = self.jobs[turn % len(self.jobs)]
            if not job.is_long or job.name not in self.result.by_job or (turn // len(self.jobs)) % 4 == 0:
                self.live(job)
            turn += 1
        self.result.seconds = time.monotonic() - began
        return self.result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = Killer(Path(folder), options.seed).run(options.kills)
    if options.json:
        print(json.dumps({"kills": result.kills, "by_job": result.by_job, "lives": result.lives}))
        return
    for what, counts in (("killed in", result.kills), ("killed job", result.by_job)):
        for name, count in counts.most_common():
            print(f"{what:>12}  {name:<32}{count:>6}")
    total = sum(result.kills.values())
    print(f"{total} kills of {result.lives} lives in {result.seconds:.0f} s: every one ended as if undisturbed.")


if __name__ == "__main__":
    main()
