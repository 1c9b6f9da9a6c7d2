import numpy as np
import pandas as pd
import pytest

from polytask.data import check_targets, input_columns
from polytask.errors import InputError, TargetError
from polytask.tasks import Multiclass, Regression

RNG = np.random.default_rng(0)
N = 200
Y = RNG.normal(size=N)
KIND = RNG.choice(list("abc"), N)
FRAME = pd.DataFrame({"x": RNG.normal(size=N), "z": RNG.integers(0, 3, N), "y": Y, "kind": KIND, "id": np.arange(N)})
TASKS = [Regression(name="y"), Multiclass(name="kind")]


def test_clean_data_pass():
    check_targets(FRAME, TASKS)
    assert input_columns(FRAME, TASKS, drop=["id"]) == ("x", "z")


def test_target_that_is_no_column():
    with pytest.raises(TargetError, match=r"Task 'k': No target column named 'knd'. Did you mean 'kind'"):
        check_targets(FRAME, [Multiclass(name="k", target="knd")])


def test_target_that_is_an_input():
    with pytest.raises(InputError, match="'y' is also the target of task 'y'"):
        check_targets(FRAME, TASKS, inputs=["x", "y"])


@pytest.mark.parametrize(
    "copy",
    [
        Y,
        Y.astype(str),
        3 - 2e4 * Y,
        Y.astype(np.float32),
        np.where(np.arange(N) % 3 == 0, np.nan, Y),
        KIND,
        pd.Categorical(KIND),
        pd.Series(KIND).map({"a": 10, "b": -3, "c": 7}),
        pd.Series(KIND).map({"a": "red", "b": None, "c": "blue"}).where(lambda s: s.notna(), "green"),
    ],
    ids=["exact", "text", "affine", "float32", "with holes", "classes", "categories", "codes", "renamed"],
)
def test_copies_of_a_target(copy):
    frame = FRAME.assign(leak=copy)
    with pytest.raises(InputError, match="Input 'leak' is a copy of target"):
        check_targets(frame, TASKS)
    check_targets(frame, TASKS, allow=["leak"])
    check_targets(frame, TASKS, inputs=["x"])


@pytest.mark.parametrize(
    "honest",
    [
        Y + 1e-3 * RNG.normal(size=N),
        np.exp(Y),
        pd.Series(KIND).map({"a": 1, "b": 1, "c": 2}),
        np.where(np.arange(N) == N - 1, "a" if KIND[-1] != "a" else "b", KIND),
        np.full(N, 3),
        [f"person {i}" for i in range(N)],
        [[1]] * N,
    ],
    ids=["noisy", "bent", "merged", "one differs", "constant", "names", "lists"],
)
def test_what_is_no_copy(honest):
    check_targets(FRAME.assign(x=honest), TASKS)


def test_two_rows_prove_nothing():
    check_targets({"x": [0, 1, 0], "y": [0, 1, 0]}, [Regression(name="y")])


def test_difference_after_the_sample():
    n = 12_000
    y = RNG.normal(size=n)
    x = y.copy()
    x[-1] += 1
    check_targets({"x": x, "y": y}, [Regression(name="y")])


def test_no_input_left():
    with pytest.raises(InputError, match="no column left"):
        input_columns({"y": [1, 2]}, [Regression(name="y")])
    with pytest.raises(InputError, match="Did you mean 'id'"):
        input_columns(FRAME, TASKS, drop=["idd"])
    with pytest.raises(InputError, match="Did you mean 'x'"):
        check_targets(FRAME, TASKS, inputs=["xx"])


@pytest.mark.parametrize("missing", [0.0, 0.6])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_copies_of_numbers_are_found_among_columns_that_only_resemble_them(scale, missing):
    rng = np.random.default_rng(0)
    y = rng.normal(size=500)
    label = np.where(rng.random(500) < missing, np.nan, y)
    table = {"line": 3 * scale * y - scale, "near": y + 1e-3 * rng.normal(size=500), "cube": y**3, "y": label}
    with pytest.raises(InputError, match="'line' is a copy of target 'y'"):
        check_targets(table, [Regression(name="y")])
    check_targets(table, [Regression(name="y")], inputs=["near", "cube"])
