"""Parquet files that stay on disk: the tensors of a table in memory, in an order that reads each row group once."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Recipe
from polytask.data import BatchPlan, TableTransform, fit_tasks, table_source
from polytask.data.shuffles import BlockShuffle
from polytask.data.streamed import RowGroups, StreamedSource
from polytask.errors import DataError, RecipeError
from polytask.tasks import registry
from polytask.training.loop import Interrupted
from polytask.training.streamed_data import StreamedTable

N = 1000


def log(path, group=70, n=N, seed=0):
    """Impressions with numbers, categories, missing inputs and labels, in row groups that are not all of one size."""
    draw = np.random.default_rng(seed)
    age = draw.normal(40, 10, n)
    frame = pd.DataFrame(
        {
            "age": np.where(draw.random(n) < 0.1, np.nan, age),
            "user": [f"u{i}" for i in draw.integers(0, 60, n)],
            "hour": draw.integers(0, 24, n),
            "click": draw.random(n) < 1 / (1 + np.exp(-(age - 40) / 5)),
            "rating": np.where(draw.random(n) < 0.6, np.nan, age / 10 + draw.normal(0, 0.3, n)),
        }
    )
    frame.to_parquet(path, row_group_size=group, index=False)
    return frame


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "log.parquet"
    log(file)
    return file


def fitted(path):
    tasks = [registry.create("binary", name="click"), registry.create("regression", name="rating")]
    fit_tasks(tasks, path)
    return tasks, TableTransform(["age", "user", "hour"], kinds={"user": "hashed"}, min_count=20).fit(path)


def test_a_row_is_the_same_as_of_a_table_in_memory_whatever_is_held(path):
    tasks, transform = fitted(path)
    whole = table_source("log", path, tasks, transform)
    rows = np.sort(np.random.default_rng(1).permutation(N)[:600])
    for hold in (1, 200, 10_000):
        reader = RowGroups(path, transform, hold)
        source = StreamedSource("log", {}, {}, {}, reader=reader, rows=rows, window=100)
        at = torch.randint(600, (64,), generator=torch.Generator().manual_seed(2))
        mine, theirs = source.batch(at).inputs, whole.batch(torch.from_numpy(rows)[at]).inputs
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_pass_reads_each_row_group_once_and_each_row_once(path):
    _, transform = fitted(path)
    reader = RowGroups(path, transform, hold=2 * 210)
    source = StreamedSource("log", {}, {}, {}, reader=reader, rows=np.arange(N), window=210)
    plan = BatchPlan({"log": N}, 32, seed=3, blocks={"log": source.blocks})
    seen = []
    for draw in plan.epoch():
        source.batch(draw.rows)
        seen += draw.rows.tolist()
    assert sorted(seen) == list(range(N))
    assert reader.n_read == len(reader.edges) - 1
    first = seen[:210]
    assert len({row // 70 for row in first}) == 3
    assert first != sorted(first)


def test_a_plan_of_blocks_goes_on_where_it_was(path):
    blocks = {"log": ([70] * 14 + [20], 210)}
    plan = BatchPlan({"log": N}, 32, seed=3, blocks=blocks)
    drawn = [draw.rows for _ in range(2) for draw in plan.epoch()]
    broken = BatchPlan({"log": N}, 32, seed=3, blocks=blocks)
    for _, _ in zip(range(20), broken.epoch(), strict=False):
        pass
    again = BatchPlan({"log": N}, 32, seed=3, blocks=blocks)
    again.load_state_dict(broken.state_dict())
    rest = [draw.rows for _ in range(2) for draw in again.epoch()]
    assert all(torch.equal(a, b) for a, b in zip(drawn[20:], rest, strict=False))
    assert not torch.equal(torch.cat(drawn[:32]), torch.cat(drawn[32:]))
    other = BatchPlan({"log": N}, 32, seed=3, blocks={"log": ([500, 500], 210)})
    with pytest.raises(RecipeError, match="Resume with the data"):
        other.load_state_dict(broken.state_dict())
    with pytest.raises(DataError, match="990 rows"):
        BlockShuffle(N, lambda *_: torch.Generator(), [990], 10)


RECIPE = {
    "tasks": {"click": "binary", "rating": "regression"},
    "encoder": {"name": "tabular", "width": 16, "n_blocks": 1},
    "training": {"epochs": 3, "batch_size": 64},
}


def test_a_recipe_learns_from_a_streamed_file_as_from_a_table(path, tmp_path):
    held, streamed = (
        Recipe(data={"log": {"path": str(path), "kinds": {"user": "hashed"}, **more}}, **RECIPE).run(
            out=tmp_path / f"run-{bool(more)}"
        )
        for more in ({}, {"streamed": 200})
    )
    assert held.record.tasks["click"].n_train == streamed.record.tasks["click"].n_train
    for name in RECIPE["tasks"]:
        mine, theirs = (run.record.tasks[name].metrics["relative_error"] for run in (streamed, held))
        assert mine < 1.0
        assert mine == pytest.approx(theirs, abs=0.1)
    frame = pd.read_parquet(path).head(5)
    assert len(streamed.predict(frame)["click"].values) == 5


class StopsAt:
    """Asks the training to stop after some steps, as Ctrl-C does."""

    def __init__(self, steps):
        self.left = steps

    def start(self, title, n_steps, done): ...

    def stop(self, message): ...

    def step(self, losses, epoch):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_streamed_run_that_is_interrupted_ends_with_the_same_bits(path, tmp_path):
    recipe = Recipe(data={"log": {"path": str(path), "streamed": 200}}, **RECIPE)
    whole = recipe.run(out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        recipe.run(out=tmp_path / "broken", progress=StopsAt(15))
    again = recipe.run(out=tmp_path / "broken", resume=True)
    mine, theirs = (run.bundle.models[0].model.state_dict() for run in (again, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert again.record.tasks["click"].metrics == whole.record.tasks["click"].metrics


def test_what_cannot_be_streamed_is_said(tmp_path, path):
    (tmp_path / "log.csv").write_text("a,click\n1,0\n2,1\n")
    with pytest.raises(DataError, match="can only be streamed from a Parquet file"):
        Recipe(
            data={"log": {"path": str(tmp_path / "log.csv"), "streamed": True}}, **RECIPE | {"tasks": ["click"]}
        ).run()
    with pytest.raises(DataError, match="path of a Parquet file"):
        Recipe(data={"log": {"streamed": True}}, **RECIPE).run({"log": pd.read_parquet(path)})
    with pytest.raises(DataError, match="in the file's order"):
        StreamedTable("log", path, targets=["click"]).inputs_of(np.array([3, 1]))
    with pytest.raises(RecipeError, match="streamed"):
        Recipe(tasks=["a"], data={"log": {"path": "x.parquet", "streamed": 0.5}})
    broken = tmp_path / "broken.parquet"
    raw = path.read_bytes()
    middle = len(raw) // 3
    broken.write_bytes(raw[:4] + bytes([255]) * middle + raw[middle + 4 :])
    _, transform = fitted(path)
    reader = RowGroups(broken, transform, 100)
    with pytest.raises(DataError, match="cannot be read after row"):
        reader.read(np.arange(N))
