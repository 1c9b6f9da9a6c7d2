import numpy as np
import pandas as pd
import pytest
import torch

from polytask.data import (
    ArraySource,
    RowsOf,
    TableTransform,
    array_source,
    fit_tasks,
    labels_of,
    read_dataset,
    table_source,
)
from polytask.data.datasets import DatasetSource
from polytask.errors import InputError, TargetError
from polytask.tasks import Binary, Multiclass, Multilabel, Regression

FRAME = pd.DataFrame(
    {
        "x": [1.0, 2.0, 3.0, 4.0],
        "w": [1, 1, 2, 0],
        "y": [1.0, None, 3.0, 5.0],
        "c": ["a", "b", "", None],
        "i": [3, 3, 4, 5],
    }
)


def test_labels_keep_their_type():
    assert labels_of(FRAME, Multiclass(name="c")).tolist() == ["a", "b", None, None]
    assert labels_of(FRAME, Multiclass(name="i")).tolist() == [3, 3, 4, 5]
    assert labels_of(FRAME, Multiclass(name="i")).dtype == np.int64
    holes = {"i": pd.array([3, None], dtype="Int64"), "b": pd.array([True, None], dtype="boolean")}
    assert labels_of(holes, Multiclass(name="i")).tolist() == [3, None]
    assert labels_of(holes, Binary(name="b")).tolist() == [True, None]
    assert labels_of(FRAME, Regression(name="y"), np.array([3, 0])).tolist() == [5.0, 1.0]


def test_labels_of_several_columns():
    task = Multilabel(name="both", target=("a", "b"))
    labels = labels_of({"a": [1, 0, None], "b": [0, 1, 1]}, task)
    assert labels.shape == (3, 2)
    assert np.isnan(labels[2, 0])


def test_a_target_that_is_no_column():
    with pytest.raises(TargetError, match=r"Task 't': No target column named 'yy'. Did you mean 'y'"):
        labels_of(FRAME, Regression(name="t", target="yy"))


def test_table_source():
    tasks = [Regression(name="y"), Multiclass(name="c"), Regression(name="other", target="nowhere")]
    fit_tasks(tasks[:2], FRAME)
    transform = TableTransform(["x"]).fit(FRAME)
    source = table_source("table", FRAME, tasks, transform, row_weights="w")
    assert source.tasks == ("y", "c")
    assert source.observed["y"].tolist() == [True, False, True, True]
    assert source.observed["c"].tolist() == [True, True, False, False]
    assert source.coverage("c") == 0.5
    batch = source.batch(torch.tensor([2, 0]))
    assert batch.row_weights.tolist() == [2, 1]
    assert torch.equal(batch.inputs["numeric"], source.inputs["numeric"][[2, 0]])
    part = table_source("table", FRAME, tasks, transform, np.array([2, 0]), row_weights="w")
    assert torch.equal(part.inputs["numeric"], batch.inputs["numeric"])
    assert torch.equal(part.observed["c"], batch.observed["c"])
    assert torch.equal(part.row_weights, batch.row_weights)


def test_table_source_with_groups_of_inputs():
    transforms = {"a": TableTransform(["x"]).fit(FRAME), "b": TableTransform(["i", "x"]).fit(FRAME)}
    source = table_source("table", FRAME, [], transforms)
    assert {key: tuple(value.shape) for key, value in source.inputs.items()} == {
        "a.numeric": (4, 1),
        "b.numeric": (4, 2),
    }


def test_tasks_of_other_sources_are_left_out():
    task = Regression(name="y", source="other")
    fit_tasks([task], FRAME)
    assert table_source("table", FRAME, [task], TableTransform(["x"]).fit(FRAME)).tasks == ()
    assert table_source("other", FRAME, [task], TableTransform(["x"]).fit(FRAME)).tasks == ("y",)


@pytest.mark.parametrize(
    ("values", "words"), [([1, -1, 1, 1], "row 1"), ([1, 1, None, 1], "row 2"), (list("abcd"), "row 0")]
)
def test_bad_row_weights(values, words):
    with pytest.raises(InputError, match=words):
        table_source("t", FRAME.assign(w=values), [], TableTransform(["x"]).fit(FRAME), row_weights="w")
    with pytest.raises(InputError, match="Did you mean 'w'"):
        table_source("t", FRAME, [], TableTransform(["x"]).fit(FRAME), row_weights="ww")


def test_array_source():
    tasks = [Regression(name="y"), Multilabel(name="m", target=("a", "b"))]
    labels = {"y": [1.0, np.nan, 2.0], "m": np.array([[0, 1], [1, np.nan], [1, 0]])}
    tasks[0].fit(labels["y"])
    tasks[1].fit(labels["m"])
    source = array_source("s", np.ones((3, 2)), labels, tasks)
    assert source.inputs.dtype == torch.float32
    assert source.observed["m"].tolist() == [[True, True], [True, False], [True, True]]
    taken = array_source("s", np.ones((3, 2)), labels, tasks, rows=np.array([1]), row_weights=[1, 2, 3])
    assert taken.observed["y"].tolist() == [False]
    assert taken.row_weights.tolist() == [2]
    assert (
        array_source("s", {"codes": np.array([[1], [2]], dtype=np.int32)}, {}, []).inputs["codes"].dtype == torch.int64
    )


def test_arrays_that_must_not_be_written():
    task = Regression(name="y")
    task.fit([1.0, 2.0])
    arrays = [np.array([[1.0], [2.0]], dtype=np.float32), np.array([1.0, 2.0]), np.array([1.0, 1.0], dtype=np.float32)]
    for array in arrays:
        array.flags.writeable = False
    source = array_source("s", arrays[0], {"y": arrays[1]}, [task], row_weights=arrays[2])
    source.inputs.zero_()
    source.row_weights.zero_()
    assert arrays[0].tolist() == [[1], [2]]
    assert arrays[2].tolist() == [1, 1]


def test_images_stay_small_in_memory():
    images = np.full((3, 1, 2, 2), 51, dtype=np.uint8)
    source = array_source("s", images, {}, [])
    assert source.inputs.dtype == torch.uint8
    assert source.batch(torch.tensor([0])).inputs.dtype == torch.float32
    assert source.batch(torch.tensor([0])).inputs.unique().tolist() == pytest.approx([0.2])
    assert source.take(torch.tensor([0, 2])).inputs.dtype == torch.uint8


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        (np.array([[1.0], [np.nan]]), {}, "row 1: NaN or infinity"),
        (np.array([[np.inf], [1.0]]), {}, "row 0: NaN or infinity"),
        ({"a": np.array([["x"], ["y"]])}, {}, "Inputs 'a' need numbers"),
        (np.ones((0, 3)), {}, "at least one row"),
        (np.ones((2, 3)), {"y": [1.0, 2.0, 3.0]}, "inputs: 2, labels of y: 3"),
        ({"a": np.ones((2, 3)), "b": np.ones((3, 3))}, {}, "inputs a: 2, inputs b: 3"),
    ],
)
def test_bad_arrays(inputs, labels, words):
    task = Regression(name="y")
    task.fit([1.0, 2.0, 3.0])
    with pytest.raises(InputError, match=words):
        array_source("s", inputs, labels, [task])


def test_a_source_that_lacks_the_labels_it_was_named_for():
    task = Regression(name="y", source="s")
    task.fit([1.0, 2.0])
    with pytest.raises(TargetError, match="Task 'y': No target named 'y'"):
        array_source("s", np.ones((2, 1)), {"z": [1, 2]}, [task])


def test_rows_of_equals_take():
    task = Multilabel(name="m", target=("a", "b"))
    labels = {"a": [0, 1, np.nan, 1], "b": [1, 0, np.nan, np.nan]}
    task.fit(labels_of(labels, task))
    source = array_source("s", {"x": np.arange(8.0).reshape(4, 2)}, labels, [task], row_weights=np.arange(4))
    rows = torch.tensor([3, 2, 0])
    view, copy = RowsOf(source, rows), source.take(rows)
    assert (view.name, view.tasks, len(view)) == ("s", ("m",), 3)
    some = torch.tensor([2, 1, 1])
    one, other = view.batch(some), copy.batch(some)
    assert torch.equal(one.inputs["x"], other.inputs["x"])
    assert torch.equal(one.observed["m"], other.observed["m"])
    assert torch.equal(one.row_weights, other.row_weights)
    assert view.coverage("m") == copy.coverage("m") == pytest.approx(2 / 3)
    assert isinstance(copy, ArraySource)


class Items(torch.utils.data.Dataset):
    def __init__(self, labels, shape=lambda i: (2,)):
        self.labels, self.shape = labels, shape

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return torch.full(self.shape(i), float(i)), self.labels[i]


@pytest.mark.parametrize("in_memory", [None, True, False])
def test_torch_dataset(in_memory):
    tasks = [Regression(name="y"), Binary(name="b")]
    contents = read_dataset(
        Items([(1.0, 0), (float("nan"), 1), (torch.tensor(3.0), None), (2.5, 1)]), tasks, in_memory=in_memory
    )
    fit_tasks(tasks, contents.labels)
    source = contents.source("s", tasks)
    assert isinstance(source, DatasetSource if in_memory is False else ArraySource)
    batch = source.batch(torch.tensor([3, 1]))
    assert batch.inputs.tolist() == [[3, 3], [1, 1]]
    assert batch.observed["y"].tolist() == [True, False]
    assert (len(source), source.tasks, source.name) == (4, ("y", "b"), "s")
    assert source.coverage("b") == 0.75
    assert RowsOf(source, torch.tensor([2])).coverage("b") == 0.0


def test_dataset_adapter_with_dicts():
    items = [
        {"image": np.zeros((1, 2, 2), dtype=np.uint8), "meta": 1.0, "y": 2.0},
        {"image": np.ones((1, 2, 2), dtype=np.uint8), "meta": 0.0, "y": 4.0},
    ]
    tasks = [Regression(name="y")]
    for in_memory in (True, False):
        contents = read_dataset(
            items, tasks, lambda item: ({"image": item["image"], "meta": [item["meta"]]}, {"y": item["y"]}), in_memory
        )
        fit_tasks(tasks, contents.labels)
        batch = contents.source("s", tasks).batch(torch.tensor([1]))
        assert batch.inputs["image"].flatten().tolist() == pytest.approx([1 / 255] * 4)
        assert batch.inputs["meta"].tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("dataset", "error", "words"),
    [
        ([], InputError, "at least one item"),
        ([1, 2], InputError, "pair of inputs and labels"),
        (Items([1.0, 2.0], lambda i: (i + 1,)), InputError, "Item 1 has inputs of shape"),
        (Items([(1.0, 2.0)]), TargetError, "2 labels, but the tasks have 1"),
        (Items([{"z": 1.0}]), TargetError, "no label for 'y'"),
    ],
)
def test_bad_datasets(dataset, error, words):
    with pytest.raises(error, match=words):
        read_dataset(dataset, [Regression(name="y")])


def test_bad_shape_found_in_the_batch():
    tasks = [Regression(name="y")]
    contents = read_dataset(Items([1.0, 2.0], lambda i: (i + 1,)), tasks, in_memory=False)
    fit_tasks(tasks, contents.labels)
    with pytest.raises(InputError, match="Item 0 has inputs of shape"):
        contents.source("s", tasks).batch(torch.tensor([1, 0]))
