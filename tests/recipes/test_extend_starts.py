"""Which start each further task keeps: put back where training made it worse, also in chains of towers."""

import numpy as np
import pandas as pd
import pytest
import torch

import polytask
from polytask import Recipe
from polytask.training import new_heads

WILD = {"epochs": 2, "learning_rate": 0.5, "batch_size": 64}


def rows(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    frame["t1"] = frame["a"] + frame["b"] + 0.1 * rng.normal(size=n)
    frame["t2"] = frame["c"] - frame["b"] + 0.1 * rng.normal(size=n)
    return frame.assign(n1=2 * frame["t1"] + 1, n2=-3 * frame["t1"])


def trained(sharing: str) -> polytask.bundle.Bundle:
    data = {"data": {"drop": ["n1", "n2"]}}
    tasks = {"t1": "regression", "t2": "regression"}
    encoder = {"name": "tabular", "width": 8}
    made = Recipe(tasks=tasks, data=data, encoder=encoder, sharing=sharing, training={"epochs": 8, "batch_size": 32})
    return made.run(rows()).bundle


@pytest.mark.parametrize("sharing", ["hard", "aitm", "task_graph"])
def test_tasks_that_all_go_back_are_as_they_were_at_their_start(sharing, monkeypatch):
    plain, starts = new_heads.NewHeads._stages, []

    def noted(self, model, listeners):
        starts.append({name: value.clone() for name, value in model.state_dict().items()})
        return plain(self, model, listeners)

    monkeypatch.setattr(new_heads.NewHeads, "_stages", noted)
    made = polytask.extend(trained(sharing), rows().drop(columns=["t1", "t2"]), ["n1", "n2"], training=WILD)
    assert set(made.record.extension.start.values()) == {"from t1, untrained"}
    assert made.record.best_epoch is None
    kept = made.bundle.models[0].model.state_dict()
    assert kept.keys() == starts[0].keys()
    assert [name for name, value in kept.items() if not torch.equal(value, starts[0][name])] == []


@pytest.mark.parametrize(("sharing", "expected"), [("hard", "from t1, untrained"), ("aitm", "from t1")])
@pytest.mark.parametrize("spoiled", ["n1", "n2"])
def test_a_task_goes_back_alone_only_where_no_other_new_task_reaches_its_parameters(
    sharing, expected, spoiled, monkeypatch
):
    plain, arms = new_heads.start_from, []

    def with_spoiled(model, task, line):
        is_done = plain(model, task, line)
        if task == spoiled:
            with torch.no_grad():
                model.heads.by_task[task].bias.fill_(1e4)
        return is_done

    class Kept(new_heads._Arm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            arms.append(self)

    monkeypatch.setattr(new_heads, "start_from", with_spoiled)
    monkeypatch.setattr(new_heads, "_Arm", Kept)
    polytask.extend(trained(sharing), rows().drop(columns=["t1", "t2"]), ["n1", "n2"], training=WILD)
    (other,) = {"n1", "n2"} - {spoiled}
    closest = arms[0]
    assert closest.before[other] < closest.after[other]
    assert closest.before[spoiled] > closest.after[spoiled]
    assert closest.started(other) == expected
    assert closest.started(spoiled) == "from t1"
    assert closest.kept[spoiled] == closest.after[spoiled]
    assert closest.loss(other) == closest.kept[other]
    assert closest.kept[other] == (closest.before if "untrained" in expected else closest.after)[other]


def test_a_task_without_validation_labels_keeps_the_closest_start(monkeypatch):
    plain = new_heads.start_from

    def spoiled(model, task, line):
        is_done = plain(model, task, line)
        if task == "n2":
            with torch.no_grad():
                model.heads.by_task[task].weight.fill_(500.0)
        return is_done

    monkeypatch.setattr(new_heads, "start_from", spoiled)
    new = rows().drop(columns=["t1", "t2"]).assign(part=np.repeat(["train", "validation", "test"], 100))
    new.loc[new["part"] == "validation", "n1"] = np.nan
    new["n3"] = new["n2"] + 1
    made = polytask.extend(
        trained("hard"),
        new,
        ["n1", "n2", "n3"],
        training={"epochs": 1, "learning_rate": 1e-3, "batch_size": 64},
        split={"method": "given", "column": "part"},
    )
    extension = made.record.extension
    assert list(extension.starts) == ["closest", "fresh", "by task"]
    assert set(extension.starts["closest"]["at the end"]) == {"n2", "n3"}
    assert extension.start["n1"] == "from t1"
    assert extension.start["n2"] == "fresh"
    assert extension.start["n3"].startswith("from t1")
