"""Notes on trainings of few steps."""

from dataclasses import replace

from polytask.training.results import step_notes
from polytask.training.schedule import Stage, StageResult
from polytask.training.settings import Settings


def test_stages_of_which_no_steps_are_known_are_not_said_to_have_none():
    done = StageResult(Stage("all", ("y",)), epochs=9)
    assert step_notes([done], Settings()) == []
    (note,) = step_notes([replace(done, steps=9, steps_per_epoch=1, n_rows=200)], Settings())
    assert "the 9 epochs changed the parameters 9 times" in note
