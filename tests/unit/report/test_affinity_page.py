"""The page of affinity: whole, escaped, readable with many tasks; the section on a study's page."""

import re
from dataclasses import replace

import numpy as np
import pytest

from polytask.affinity.grouping import GroupBudget
from polytask.affinity.groups import make_grouping
from polytask.affinity.readings import as_matrix
from polytask.affinity.record import AffinityRecord, Found, Structure
from polytask.errors import DataError
from polytask.report import load_record, write_page
from polytask.report.affinity import clustered_order, heat_map
from polytask.storage import write_json


def made(n, names=None, structure=True):
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 4, n)
    values = np.where(cluster[:, None] == cluster, 0.5, -0.1) + 0.05 * rng.normal(size=(n, n))
    values = (values + values.T) / 2
    np.fill_diagonal(values, np.nan)
    values[0, 1] = values[1, 0] = np.nan
    names = names or [f"task-{i}" for i in range(n)]
    found = Found(
        "mean cosine of something",
        False,
        True,
        as_matrix(values),
        as_matrix(np.abs(values) / 10),
        as_matrix(values),
        2,
        {"forward": 10.0, "backward": 20.0, "trainings": 2, "seconds": 1.5},
        Structure(structure, 0.001, 0.9, "There is structure." if structure else "No structure was found."),
        ("a note <b>",),
    )
    grouping = make_grouping("gradient_cosine", found, names, GroupBudget(models=4))
    tasks = {name: {"kind": "regression", "n_labels": 10} for name in names}
    return AffinityRecord(tasks, {"gradient_cosine": found}, ("x pulls against y",), grouping), cluster


def test_the_page_holds_every_finding_without_charts(tmp_path):
    record, _ = made(8, ["<b>bold", *(f"t{i}" for i in range(7))])
    page = write_page(record, tmp_path / "page.html", charts=False).read_text()
    for text in ("4 groups of 8 tasks by gradient_cosine", "x pulls against y", "There is structure.", "all alone"):
        assert text in page
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page


def test_a_record_in_a_folder_is_found_and_drawn(tmp_path):
    record, _ = made(6)
    write_json(tmp_path / "affinity.json", record.to_json())
    assert load_record(tmp_path) == record
    with pytest.raises(DataError, match="pages of their own"):
        write_page([record, record], tmp_path / "both.html", charts=False)


def test_many_tasks_are_in_clustered_order_and_named_when_pointed_at():
    record, cluster = made(139)
    found = record.measures["gradient_cosine"]
    order = clustered_order(found.values)
    changes = (np.diff(cluster[order]) != 0).sum()
    assert sorted(order) == list(range(139))
    assert changes <= 6  # four clusters, and the pair that is not known may stand apart
    figure = heat_map("gradient_cosine", found.words, list(record.tasks), found.values)
    (trace,) = figure.data
    assert trace["hovertext"][0][1].count("→") == 1
    assert trace["zmin"] == -trace["zmax"]
    assert len(figure.layout["xaxis"]["tickvals"]) <= 35
    assert re.search(r"The largest is 0\.\d+, of task-\d+ for task-\d+", figure.alt)


def test_values_of_one_sign_have_a_scale_of_one_hue():
    figure = heat_map("cka", "linear CKA", ["a", "b"], [[None, 0.4], [0.4, None]])
    assert figure.data[0]["meta"] == "sequential"
    assert heat_map("cka", "linear CKA", ["a", "b"], [[None, None], [None, None]]) is None


def test_no_structure_is_in_the_headline(tmp_path):
    record, _ = made(5, structure=False)
    page = write_page(record, tmp_path / "page.html", charts=False).read_text()
    assert "by gradient_cosine, which may be chance" in page
    assert "Do not rely on the groups." in page


def test_a_control_that_is_as_good_is_in_the_headline(tmp_path):
    record, _ = made(5)
    grouping = record.grouping
    as_good = replace(grouping.chosen, verified=0.5)
    for verified, said in ((0.5, True), (0.6, False)):
        chosen = replace(grouping.chosen, verified=verified)
        again = replace(record, grouping=replace(grouping, chosen=chosen, controls={"all together": as_good}))
        page = write_page(again, tmp_path / f"{verified}.html", charts=False).read_text()
        assert ("by gradient_cosine, no better than all together;" in page) == said
