"""Trials that are trained together: the same as one by one, and the record says so."""

import pandas as pd
import pytest

from polytask.data.generators import related_regressions
from polytask.errors import RunFolderError
from polytask.study import Protocol, Study
from polytask.study.networks import NetworkArm
from polytask.training.stacked import fit_stacked
from polytask.training.stacked.stack import Stack

SETTINGS = {"training": {"epochs": 3, "batch_size": 32}, "encoder": {"name": "tabm", "k": 2, "width": 8}}


def study(frame: pd.DataFrame, out=None, *, resume=False, folds=4) -> Study:
    return Study(
        frame, ["y0", "y1"], arms=["single", "joint", "joint+uncertainty", "joint+pcgrad"],
        protocol=Protocol(folds=folds), out=out, resume=resume, **SETTINGS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return related_regressions(2, 120, n_inputs=3).frame


def test_a_study_stacks_its_networks_and_says_what_it_did_not(frame, monkeypatch):
    sizes = []

    def noted(asked, **options):
        found = fit_stacked(asked, **options)
        sizes.extend(found.sizes)
        return found

    monkeypatch.setattr("polytask.study.finished.fit_stacked", noted)
    record = study(frame).run()
    # The first fold arm by arm; then four networks or more of one shape at once: 3 folds x 2 tasks, and 3 folds.
    # The single networks are recommended too (with others, for one task), so that those of all rows are two more.
    assert all("single" in arm.split(" + ") for arm in record.recommendation.arms.values())
    assert sorted(sizes) == [2, 2, 3, 3, 6]
    assert "6 networks of one shape were trained at once." in record.arms["single"].notes
    assert "3 networks of one shape were trained at once." in record.arms["joint"].notes
    (alone,) = record.arms["joint+pcgrad"].notes
    assert alone == "Trained by itself and in no stack: its balancer PCGrad looks at more than the losses of the step."


def test_the_record_is_that_of_trainings_one_by_one(frame, monkeypatch):
    together = study(frame).run()

    def one_by_one(asked, **options):
        return fit_stacked(asked, most=1, **options)

    monkeypatch.setattr("polytask.study.finished.fit_stacked", one_by_one)
    apart = study(frame).run()
    for task in ("y0", "y1"):
        for field in ("mean", "low", "high"):
            ours, theirs = (getattr(r.recommendation.error[task], field) for r in (together, apart))
            assert ours == pytest.approx(theirs, rel=1e-3)
    assert together.recommendation.arms == apart.recommendation.arms


def test_a_unit_that_was_half_written_is_trained_again_and_the_record_is_the_same(frame, tmp_path):
    whole = study(frame, tmp_path / "a").run()
    study(frame, tmp_path / "b").run()
    for lost in (tmp_path / "b").glob("trials/joint/0-2.*"):
        lost.unlink()
    (tmp_path / "b" / "study.json").unlink()
    again = study(frame, tmp_path / "b", resume=True).run()
    assert {n: a.notes for n, a in again.arms.items()} == {n: a.notes for n, a in whole.arms.items()}
    for task in ("y0", "y1"):
        assert again.recommendation.error[task] == whole.recommendation.error[task]


def test_arms_of_networks_name_their_trainings(frame):
    from polytask.study.naming import make_arm

    assert all(isinstance(make_arm(name), NetworkArm) for name in ("single", "joint:mmoe", "pooled"))
    assert not isinstance(make_arm("linear"), NetworkArm)


class Killed(BaseException):
    """What nobody catches."""


class Counts:
    """Steps of stacks, as how many members took them; from the n-th stack on, every step kills."""

    def __init__(self, monkeypatch, kill_stack: int | None = None):
        self.stacks: list[int] = []
        whole = Stack.run

        def run(stack):
            if len(self.stacks) + 1 == kill_stack:
                stack.step()
                raise Killed
            self.stacks.append(len(stack.program.members))
            whole(stack)

        monkeypatch.setattr(Stack, "run", run)


def two_shapes(frame: pd.DataFrame, out, *, resume=False) -> Study:
    return Study(
        frame,
        ["y0", "y1", "old", "ill"],
        arms=["single"],
        protocol=Protocol(folds=2),
        out=out,
        resume=resume,
        **SETTINGS,
    )


def timeless(record) -> dict:
    arms = {
        name: {key: value for key, value in arm.items() if "seconds" not in key}
        for name, arm in record.to_json()["arms"].items()
    }
    return {"arms": arms, "verdicts": record.to_json()["verdicts"]}


def test_after_a_kill_in_the_middle_of_a_unit_its_finished_stack_is_not_trained_again(frame, tmp_path, monkeypatch):
    frame = frame.assign(old=frame["y0"] > frame["y0"].median(), ill=frame["y1"] > frame["y1"].median())
    whole = two_shapes(frame, tmp_path / "whole")
    record = whole.run()
    # A fold is two stacks, regressions and binary tasks, and so is the training on all rows.
    for kill in (2, 4, 6):
        out = tmp_path / str(kill)
        with monkeypatch.context() as patch:
            before = Counts(patch, kill_stack=kill)
            with pytest.raises(Killed):
                two_shapes(frame, out).run()
        assert before.stacks == [2] * (kill - 1)
        assert len(list(out.glob("networks/**/*.safetensors"))) == 2
        with monkeypatch.context() as patch:
            after = Counts(patch)
            again = two_shapes(frame, out, resume=True)
            assert timeless(again.run()) == timeless(record)
        assert after.stacks == [2] * (6 - kill + 1)
        ours, theirs = (study.bundle.predict(frame)["ill"].values for study in (again, whole))
        assert (ours == theirs).all()
        assert not (out / "networks").exists()


def test_a_damaged_network_of_an_unfinished_unit_is_named(frame, tmp_path, monkeypatch):
    frame = frame.assign(old=frame["y0"] > frame["y0"].median(), ill=frame["y1"] > frame["y1"].median())
    with monkeypatch.context() as patch:
        Counts(patch, kill_stack=2)
        with pytest.raises(Killed):
            two_shapes(frame, tmp_path / "a").run()
    (path,) = (tmp_path / "a").glob("networks/**/0.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunFolderError, match=r"0\.safetensors.*its network is trained again"):
        two_shapes(frame, tmp_path / "a", resume=True).run()
