"""One process at a time is busy with a run folder, and a process that dies leaves it free."""

import signal
import subprocess
import sys

import pytest

from polytask import Study
from polytask.data.generators import related_regressions
from polytask.errors import RunFolderError
from polytask.study import Protocol
from polytask.training.run_folder import RunFolder

HOLDS = """
import sys, time
from polytask.training.run_folder import RunFolder
folder = RunFolder(sys.argv[1])
folder.open({"a": 1}, resume=True)
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_that_is_open_is_refused_until_it_is_closed(tmp_path):
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.open({"a": 1}, resume=False)
    with pytest.raises(RunFolderError, match="in use"):
        second.open({"a": 1}, resume=True)
    first.close()
    second.open({"a": 1}, resume=True)
    second.close()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["environment.json", "recipe.json"]


def test_a_folder_of_a_process_that_was_killed_can_be_gone_on_with(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "held\n"
        made = related_regressions(2, 60, n_inputs=3)
        study = Study(made.frame, ["y0", "y1"], arms=["linear"], protocol=Protocol(folds=2), out=tmp_path / "run")
        with pytest.raises(RunFolderError, match="in use"):
            study.run()
        process.send_signal(signal.SIGKILL)
        process.wait()
    study.run()
    assert not (tmp_path / "run" / ".lock").exists(), "a study that is done lets go"
