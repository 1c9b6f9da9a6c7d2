"""A bundle that was extended answers its old tasks bit for bit as before, over HTTP and in exported graphs too."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from running_server import running

from polytask import Recipe, extend
from polytask.serving.export import export, random_rows, run

TRAINING = {"epochs": 1, "batch_size": 16, "learning_rate": 0.01}
OLD = ["price", "ill"]


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "price": x @ [1.0, -1.0]})
    return frame.assign(ill=np.where(x[:, 0] > 0, "yes", "no"))


@pytest.mark.parametrize(("sharing", "adapters"), [("residual_adapters", False), ("hard", True)])
def test_old_tasks_are_bit_equal_wherever_they_are_asked(sharing, adapters, tmp_path):
    frame = table()
    old = (
        Recipe(tasks=OLD, sharing=sharing, encoder={"name": "tabular", "width": 8}, training=TRAINING).run(frame).bundle
    )
    new = frame.drop(columns=OLD).assign(cost=frame["price"] * 2)
    grown = extend(old, new, ["cost"], adapters=adapters, training=TRAINING).bundle
    rows = frame[["a", "b"]].to_dict("records")
    answers = []
    for bundle in (old, grown):
        with running(bundle) as (client, _):
            answers.append([client.post("/predict", json={"rows": rows[:n]}).json() for n in (1, 60)])
    for before, after in zip(*answers, strict=True):
        kept = [{task: row[task] for task in OLD} for row in after["predictions"]]
        assert kept == before["predictions"]
        assert all("cost" in row for row in after["predictions"])
    if not adapters:
        # A graph of all tasks gives the old ones what their own graph gave, though its batches are of other sizes.
        graphs = [
            export(bundle, tmp_path / name, to="torch", tasks=tasks).graph
            for name, bundle, tasks in (("old", old, OLD), ("grown", grown, [*OLD, "cost"]))
        ]
        tensors = random_rows(next(iter(old.models[0].spec.inputs.values())), 5)
        before, after = (run(graph, tensors) for graph in graphs)
        assert len(after) == 3
        assert all(np.array_equal(a, b) for a, b in zip(before, after[:2], strict=True))
