"""Studies of texts and files that a column holds or names: one task, a hundred, and several sources."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from polytask import Recipe, Study, load
from polytask.study import Protocol

pytest.importorskip("tokenizers")

TEXTS = {"encoder": {"name": "text_cnn", "width": 4}, "training": {"epochs": 1, "batch_size": 16}}
PHOTOS = {"encoder": {"name": "cnn", "channels": [2], "width": 4}, "training": {"epochs": 1, "batch_size": 16}}


def texts(path, n_tasks: int, n: int = 40):
    """A file of texts, whose word says the sign of each number; a tenth of the labels is missing."""
    rng = np.random.default_rng(0)
    good = np.arange(n) % 2
    frame = pd.DataFrame({"text": np.where(good, "good film", "dull plot")})
    labels = (2 * good[:, None] - 1) + 0.1 * rng.normal(size=(n, n_tasks))
    labels[rng.random(labels.shape) < 0.1] = np.nan
    names = [f"y{t}" for t in range(n_tasks)]
    pd.concat([frame, pd.DataFrame(labels, columns=names)], axis=1).to_csv(path, index=False)
    return path, names


def photos(folder, names: list[str], n: int = 30):
    """Grey pictures in a folder, and a table that names them, bright ones of large numbers."""
    folder.mkdir()
    light = np.arange(n) % 3
    for row in range(n):
        Image.fromarray(np.full((8, 8), 40 + 80 * light[row], dtype=np.uint8)).save(folder / f"{row}.png")
    frame = pd.DataFrame({"photo": [f"{row}.png" for row in range(n)]})
    frame.assign(**dict.fromkeys(names, light + 0.5)).to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def test_one_task_of_texts_has_no_verdict_but_a_recommendation(tmp_path):
    path, names = texts(tmp_path / "t.csv", 1)
    arms = ["single", "joint", "linear"]
    study = Study(path, names, arms=arms, protocol=Protocol(folds=2), reads="text", out=tmp_path / "run", **TEXTS)
    record = study.run()
    assert record.verdicts == {}
    assert list(record.left_out) == ["joint"]
    assert "one task only" in record.left_out["joint"]
    assert record.arms["linear"].error["y0"].mean < 0.2
    assert set(record.recommendation.arms["y0"].split(" + ")) <= {"single", "linear"}
    answers = load(tmp_path / "run").predict(path)["y0"].values
    assert answers[0] < answers[1]


def test_a_hundred_tasks_of_texts(tmp_path):
    path, names = texts(tmp_path / "t.csv", 100)
    study = Study(path, names, arms=["joint", "linear"], protocol=Protocol(folds=2), reads="text", **TEXTS)
    record = study.run()
    assert list(record.tasks) == names
    for arm in ("joint", "linear"):
        assert all(None not in record.arms[arm].errors[name] for name in names)
    assert set(study.bundle.predict(path)) == set(names)


@pytest.mark.parametrize("streamed", [False, True])
def test_photos_of_two_sources_are_learned_by_one_network_and_by_single_ones(tmp_path, streamed):
    data = {
        name: {"path": str(photos(tmp_path / name, [task])), "reads": "photo", "streamed": streamed}
        for name, task in (("north", "y"), ("south", "z"))
    }
    study = Study(
        Recipe(tasks=["y", "z"], data=data, **PHOTOS),
        arms=["single", "joint", "linear"],
        protocol=Protocol(folds=2),
        out=tmp_path / "run",
    )
    record = study.run()
    assert set(record.arms) == {"single", "joint"}
    assert record.left_out == {"linear": "it reads no files of pixels or waves"}
    assert [record.tasks[task].n_labels for task in ("y", "z")] == [30, 30]
    assert set(record.data["sources"]) == {"north", "south"}
    for arm in record.arms.values():
        assert None not in (*arm.errors["y"], *arm.errors["z"])
    bundle = load(tmp_path / "run")
    assert bundle.predict(tmp_path / "south" / "rows.csv", source="south")["z"].values.shape == (30,)
