"""Notes on the data, from the folds to the study."""

import numpy as np
import pandas as pd

from polytask import Recipe
from polytask.data.transform import TableTransform
from polytask.records import StudyFold
from polytask.study.data_notes import data_notes
from polytask.study.store import KeptFold


def fold(*notes: str) -> KeptFold:
    return KeptFold(StudyFold(0, 0, 0, 2, 3, 3), {}, {}, notes=notes)


def test_columns_whose_names_have_a_colon_are_told_apart():
    one, other = (f"Column 'day:{k}' is left out: it has one value only in the training rows." for k in (1, 2))
    assert [note["words"] for note in data_notes([fold(one, other), fold(one, other)])] == [one, other]


def test_what_is_so_on_some_folds_says_on_how_many():
    note = "Column 'a b' is left out: its texts are nearly all different."
    (found,) = data_notes([fold(note), fold()])
    assert found["words"] == f"{note} (On 1 of 2 folds.)"


def test_settings_of_one_of_several_sources_are_given_with_its_name(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        texts = [f"said {k} on {k * k}" for k in range(60)]
        frame = pd.DataFrame({"x": rng.normal(size=60), "free text": texts, f"y_{name}": rng.normal(size=60)})
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    data = {name: str(tmp_path / f"{name}.csv") for name in ("one", "two")}
    notes = Recipe(tasks=["y_one", "y_two"], data=data, training={"epochs": 1}).run().record.notes
    assert any("--set 'data.one.kinds.free text=words' reads" in note for note in notes)
    assert any("--set 'data.two.kinds.free text=words' reads" in note for note in notes)


def test_a_column_to_drop_is_quoted_where_a_shell_needs_it():
    (note,) = TableTransform().fit({"Row ID": list(range(60))}).notes
    assert note.endswith("leave it out by --drop 'Row ID'.")
