"""The whole way: several sources, long tables, one task, missing labels, what is unknown, negative transfer."""

import re

import numpy as np
import pandas as pd
import pytest

from polytask.affinity import AffinityRecord, find_affinity
from polytask.affinity.finding import harm_of
from polytask.affinity.grouping import GroupBudget
from polytask.affinity.readings import as_matrix
from polytask.affinity.record import Found, Structure, how_verified
from polytask.data.generators import clustered_tasks
from polytask.errors import RecipeError, RunFolderError, TargetError
from polytask.report import write_page
from polytask.training.progress import Silent

NETWORK = {"encoder": {"name": "mlp", "widths": [8]}, "training": {"epochs": 2, "batch_size": 32}}


def test_each_value_of_a_column_is_a_task():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 3))
    frame = pd.DataFrame(x, columns=["x0", "x1", "x2"]).assign(
        school=np.repeat(["a", "b", "c"], 80), mark=x[:, 0] + 0.1 * rng.normal(size=240)
    )
    record = find_affinity(
        frame,
        ["mark"],
        by="school",
        measures=["gradient_cosine"],
        budget=lambda n: GroupBudget(models=n - 1),
        **NETWORK,
    )
    assert list(record.tasks) == ["school a", "school b", "school c"]
    assert {task["kind"] for task in record.tasks.values()} == {"regression"}
    assert len(record.grouping.chosen.groups) <= 2
    assert set(record.grouping.chosen.skill) == set(record.tasks)
    assert record.grouping.chosen.verified is not None
    assert record.grouping.controls["all alone"].models == 3


def test_several_sources():
    first = clustered_tasks((2,), 120, n_inputs=4, seed=1).frame
    second = clustered_tasks((2,), 100, n_inputs=4, seed=1).frame.rename(columns={"y0": "z0", "y1": "z1"})
    record = find_affinity(
        {"one": first, "two": second},
        ["y0", "y1", "z0", "z1"],
        measures=["gradient_cosine", "label_correlation"],
        budget=GroupBudget(models=2),
        seeds=1,
        **NETWORK,
    )
    values = record.measures["label_correlation"].array
    assert values[0, 1] > 0.7
    assert np.isnan(values[0, 2])
    assert np.isfinite(record.measures["gradient_cosine"].array[0, 2])
    assert record.grouping.chosen.verified is not None
    assert "Do not rely on the groups" in " ".join(record.grouping.notes)


def test_one_task_and_a_missing_zero(tmp_path):
    frame = clustered_tasks((1,), 80, n_inputs=4).frame
    record = find_affinity(
        frame, ["y0"], measures=["gradient_cosine"], budget=GroupBudget(models=3), seeds=1, out=tmp_path, **NETWORK
    )
    assert record.grouping.chosen.groups == (("y0",),)
    assert record.measures["gradient_cosine"].values == ((None,),)
    assert "one task" in record.measures["gradient_cosine"].notes[0]
    assert AffinityRecord.load(tmp_path) == record


def found(gains, spread, directed, structure=True):
    blank = Structure(structure, 0.01 if structure else 0.6, 0.9, "")
    return Found("w", directed, True, as_matrix(gains), as_matrix(spread), as_matrix(gains), 2, {}, blank)


def test_harm_is_said_where_it_is_more_than_the_spread():
    gains = np.array([[np.nan, -0.5, 0.1], [-0.01, np.nan, -0.4], [0.1, -0.4, np.nan]])
    spread = np.full((3, 3), 0.1)
    said = harm_of({"lookahead": found(gains, spread, True)}, ["a", "b", "c"])
    assert [text.split(":")[0] for text in said] == ["a hurts b", "b hurts c", "c hurts b"]
    both = harm_of({"gradient_cosine": found(gains, spread, False)}, ["a", "b", "c"])
    assert harm_of({"lookahead": found(gains, spread, True, structure=False)}, ["a", "b", "c"]) == []
    assert both[0] == "a and b pull against each other: gradient_cosine -0.5 ± 0.1."


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seeds": 0}, RecipeError, "at least one seed"),
        ({"by": "y0"}, TargetError, "cannot be a target"),
        ({"measures": []}, RecipeError, "Name at least one measure"),
    ],
)
def test_wrong_arguments(options, error, message):
    frame = clustered_tasks((2,), 60, n_inputs=4).frame
    with pytest.raises(error, match=message):
        find_affinity(frame, ["y0", "y1"], **options)


class Stops(Silent):
    """Interrupts the n-th training."""

    def __init__(self, n):
        self.left = n

    def start(self, title, n_steps, done):
        self.left -= title.startswith(("joint", "y"))
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [2, 4])
def test_resumed_is_equal_to_uninterrupted_and_trains_nothing_twice(tmp_path, at):
    made = clustered_tasks((2, 1), 90, n_inputs=5)
    asked = {"measures": ["gradient_cosine"], "budget": GroupBudget(models=2), **NETWORK}
    counted = Stops(100)
    whole = find_affinity(made.frame, list(made.targets), progress=counted, **asked)
    with pytest.raises(KeyboardInterrupt):
        find_affinity(made.frame, list(made.targets), out=tmp_path, progress=Stops(at), **asked)
    rest = Stops(100)
    resumed = find_affinity(made.frame, list(made.targets), out=tmp_path, resume=True, progress=rest, **asked)
    timeless = {"seconds": 0.0, "made": ""}
    plain, again = ({**record.to_json(), **timeless} for record in (whole, resumed))
    for one in (plain, again):
        one["measures"]["gradient_cosine"]["cost"].pop("seconds")
    assert again == plain
    assert 100 - rest.left == 100 - counted.left - (at - 1)


def test_a_damaged_result_is_named_and_not_taken(tmp_path):
    made = clustered_tasks((2,), 60, n_inputs=4)
    asked = {"measures": ["label_correlation"], **NETWORK}
    find_affinity(made.frame, list(made.targets), out=tmp_path, **asked)
    (tmp_path / "affinity.json").unlink()
    (damaged, *_) = (tmp_path / "done").iterdir()
    damaged.write_text("{")
    with pytest.raises(RunFolderError, match=f"{damaged.name} cannot be read.*Remove it"):
        find_affinity(made.frame, list(made.targets), out=tmp_path, resume=True, **asked)


def test_verifying_may_be_left_out_or_made_up_for_when_it_is_resumed(tmp_path):
    made = clustered_tasks((2, 1), 90, n_inputs=5)
    asked = {"measures": ["gradient_cosine"], "budget": GroupBudget(models=2), "out": tmp_path, **NETWORK}
    tasks = list(made.targets)
    with pytest.raises(KeyboardInterrupt):  # in the first training that verifies
        find_affinity(made.frame, tasks, progress=Stops(3), **asked)
    counted = Stops(100)
    quick = find_affinity(made.frame, tasks, resume=True, verify=False, progress=counted, **asked)
    assert quick.grouping.chosen.verified is None
    assert counted.left == 100
    whole = find_affinity(made.frame, tasks, resume=True, **asked)
    assert whole.grouping.chosen.verified is not None
    assert whole.measures.keys() == quick.measures.keys()
    # What is there is not thrown away for having been more than is asked for now.
    assert find_affinity(made.frame, tasks, resume=True, verify=False, **asked) == whole


def test_a_hundred_tasks_from_readings_to_verified_groups_and_their_page(tmp_path):
    made = clustered_tasks((20,) * 5, 60, n_inputs=105, missing=0.5)
    network = {"encoder": {"name": "mlp", "widths": [4]}, "training": {"epochs": 1}}
    asked = {"measures": ["gradient_cosine", "label_correlation"], "budget": GroupBudget(models=5), "seeds": 2}
    record = find_affinity(made.frame, list(made.targets), out=tmp_path, **asked, **network)
    found = record.grouping
    assert not found.is_exact
    assert sorted(t for serves in found.chosen.serves for t in serves) == sorted(made.targets)
    assert found.chosen.models <= 5
    assert found.chosen.verified is not None
    assert {"all together", "all alone", "random 1"} <= found.controls.keys()
    page = write_page(AffinityRecord.load(tmp_path), tmp_path / "page.html").read_text(encoding="utf-8")
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', page)
    assert lead == how_verified(found.chosen, found.controls)
    assert len(lead) < 300
    assert all(f'<th scope="row">{i}</th>' in page for i in range(1, len(found.chosen.groups) + 1))
