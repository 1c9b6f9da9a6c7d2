"""The same study whatever trains it: in this process, in several, on Ray; workers and whole studies that are killed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.errors import RecipeError, TrainingError, UnknownNameError
from polytask.study import Protocol, Study
from polytask.study.bench import Place, PlannedTrial, Unit
from polytask.study.budget import Budget
from polytask.study.engine import MOST_ATTEMPTS
from polytask.study.engines.local import Local
from polytask.study.threads import limited_threads

QUICK = {
    "training": {"epochs": 2, "batch_size": 64},
    "encoder": {"name": "tabular", "width": 8, "n_blocks": 1, "embedding_width": 2},
}
ARMS = ["joint", "linear"]
SEARCH = {"trials": 2}


pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(150, 3)), columns=["a", "b", "c"])
    frame["town"] = rng.choice(["x", "y"], 150)
    signal = frame["a"] + frame["b"]
    frame["y"] = (signal + 0.3 * rng.normal(size=150)).where(rng.random(150) > 0.3)
    frame["ill"] = pd.Series(np.where(signal > 0.3 * rng.normal(size=150), "yes", "no")).where(rng.random(150) > 0.2)
    return frame


def study(table, engine=None, out=None, listener=None, **more):
    return Study(table, ["y", "ill"], arms=ARMS, search=SEARCH, protocol=Protocol(folds=3), engine=engine, out=out, listener=listener, **QUICK, **more)  # fmt: skip


def timeless(record: dict) -> dict:
    """The record without times, dates, and where it was trained."""
    arms = {
        name: {key: value for key, value in arm.items() if key not in ("seconds", "predict_seconds")}
        for name, arm in record["arms"].items()
    }
    rest = json.loads(json.dumps({key: record[key] for key in record if key not in ("seconds", "made", "engine")}))
    for found in rest["search"].values():
        for fold in found["folds"]:
            fold.pop("seconds_of_winner")
    return {**rest, "arms": json.loads(json.dumps(arms))}


@pytest.fixture(scope="module")
def in_one_process(table):
    made = study(table)
    made.run()
    return made


@pytest.fixture(scope="module")
def alone(in_one_process):
    return timeless(in_one_process.record.to_json())


def worker_ids() -> list[int]:
    """Processes of this one that work for an engine."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    children = " ".join((task / "children").read_text() for task in tasks.iterdir()).split()
    return [int(p) for p in children if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text()]


@pytest.mark.slow
def test_two_processes_give_the_same_record_even_if_one_is_killed(table, in_one_process, alone, tmp_path):
    told = []

    def listener(title, done, total):
        told.append((title, done, total))
        if done == 4 and len(told) and not any("killed" in t for t, *_ in told):
            os.kill(random.Random(0).choice(worker_ids()), signal.SIGKILL)
            told.append(("killed", done, total))

    made = study(table, {"name": "local", "workers": 2}, tmp_path / "run", listener)
    record = made.run().to_json()
    assert timeless(record) == alone
    assert len(record["engine"]["deaths"]) == 1
    assert record["engine"]["workers"] == 2
    assert any(" | " in title for title, *_ in told), "two trials at a time"
    assert any("(1 of 2 tried, best error" in title for title, *_ in told), "how far a search is"
    assert worker_ids() == [], "all workers have ended"
    for task, answer in made.bundle.predict(table).items():
        assert (answer.values == in_one_process.bundle.predict(table)[task].values).all(), "the same final models"


def test_a_unit_that_kills_every_worker_is_given_up():
    engine, place = Local(2), Place(0, 1, None)
    unit = Unit((PlannedTrial("joint", place), PlannedTrial("single", place)))
    for attempt in range(1, MOST_ATTEMPTS):
        engine.died(unit, attempt, "exit code -9")
    with pytest.raises(TrainingError, match="joint, repetition 1, fold 2 and 1 more died 3 times"):
        engine.died(unit, MOST_ATTEMPTS, "exit code -9")
    assert len(engine.deaths) == MOST_ATTEMPTS


@pytest.mark.slow
def test_the_same_on_ray_even_if_a_worker_is_killed(table, alone):
    if find_spec("ray") is None:
        pytest.skip("needs the extra 'ray'")
    told = []

    def listener(title, done, total):
        import ray

        told.append(ray.util.get_node_ip_address())
        if done == 3 and killer.ident is None:
            killer.start()

    killer = threading.Thread(target=kill_a_ray_worker, daemon=True)
    record = study(table, {"name": "ray", "workers": 2}, listener=listener).run().to_json()
    assert timeless(record) == alone
    assert record["engine"]["name"] == "ray"
    assert len(record["engine"]["deaths"]) == 1
    assert set(told) == {"127.0.0.1"}
    assert not sys.modules["ray"].is_initialized()
    with pytest.raises(RecipeError, match="no Ray cluster"):
        study(table, {"name": "ray", "address": "127.0.0.1:1"}).run()


def kill_a_ray_worker() -> None:
    """Kill a process of Ray that works on a unit; Ray gives its processes the name of what they do."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"ray::_carry_out" in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return
        time.sleep(0.005)


SCRIPT = """
import signal
import sys
import time
import pandas as pd
from polytask.study import Protocol, Study
def slowly(title, done, total):
    time.sleep(0.5)  # so that even on a busy machine the signal comes before the last trials end
if __name__ == "__main__":
    table, out, workers = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores Ctrl-C
    open(out + ".begun", "w").close()  # before, a signal may hit an import, and be swallowed there
    Study(pd.read_csv(table), ["y", "ill"], arms=["joint", "linear"], search={"trials": 2}, protocol=Protocol(folds=3), out=out,
          resume=True, engine={"name": "local", "workers": int(workers)}, listener=slowly if workers == "2" else None,
          training={"epochs": 2, "batch_size": 64},
          encoder={"name": "tabular", "width": 8, "n_blocks": 1, "embedding_width": 2}).run()
"""


@pytest.mark.slow
def test_a_study_that_is_ended_at_any_moment_goes_on_and_does_nothing_twice(table, alone, tmp_path):
    script, path, out = tmp_path / "go.py", tmp_path / "t.csv", tmp_path / "run"
    script.write_text(SCRIPT)
    table.to_csv(path, index=False)
    command = [sys.executable, str(script), str(path), str(out)]
    dice = random.Random()
    finished: dict[Path, int] = {}
    for how, wanted in ((signal.SIGKILL, dice.randrange(1, 4)), (signal.SIGINT, dice.randrange(4, 8))):
        (begun := tmp_path / "run.begun").unlink(missing_ok=True)
        process = subprocess.Popen([*command, "2"], stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (
            begun.exists() and len(list(out.glob("trials/*/[!.]*.json"))) >= wanted
        ):
            time.sleep(0.02)
        time.sleep(dice.random() / 5)
        (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        process.wait(timeout=60)
        assert {file: file.stat().st_mtime_ns for file in finished} == finished, "a finished trial was trained again"
        finished = {file: file.stat().st_mtime_ns for file in out.glob("trials/*/[!.]*.json")}
        assert len(finished) >= wanted
        assert not (out / "study.json").exists()
    again = subprocess.run([*command, "1"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert {file: file.stat().st_mtime_ns for file in finished} == finished, "a finished trial was trained again"
    record = json.loads((out / "study.json").read_text())
    same = {**record, "data": alone["data"], "settings": alone["settings"], "environment": alone["environment"]}
    assert timeless(same) == alone
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if _is_of(p, str(script))], "no worker is left over"


def _is_of(path: Path, text: str) -> bool:
    try:
        return text in path.read_text()
    except OSError:
        return False


def test_names_and_numbers_that_are_no_engine(table):
    with pytest.raises(UnknownNameError, match="local"):
        study(table, "locl")
    with pytest.raises(RecipeError, match="workers of at least 1, got 0"):
        study(table, {"name": "local", "workers": 0})
    with pytest.raises(RecipeError, match="adress"):
        study(table, {"name": "ray", "adress": "auto"})


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads(), os.environ.get("LOKY_MAX_CPU_COUNT")
    with limited_threads(2):
        assert torch.get_num_threads() == 2
        assert os.environ["LOKY_MAX_CPU_COUNT"] == "2"
    assert (torch.get_num_threads(), os.environ.get("LOKY_MAX_CPU_COUNT")) == before


def test_two_workers_fit_more_into_the_same_budget():
    one, two = (Budget(100, 5, (), workers) for workers in (1, 2))
    assert one.why_not_keep("a", 20)
    assert not two.why_not_keep("a", 20)
    assert two.planned == 20 * (5 / 2 + 1)
    assert two.repeats(100) == 1
    assert Budget(300, 5, (), 2).folds() == 5
