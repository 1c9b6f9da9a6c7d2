"""Kill -9 at random moments of every kind of work: what goes on afterwards ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

PROGRAM = Path(__file__).parents[2] / "bench" / "kills.py"


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_no_bit():
    """One process that has everything loaded forks those that are killed; the moments are in what it prints."""
    command = [sys.executable, str(PROGRAM), "--kills", "50", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sum(told["kills"].values()) >= 50
    hit = {"by the clock", "loading", "step", "end of an epoch", "checkpoint", "bundle", "trial", "prediction"}
    assert set(told["kills"]) == hit, "a part of the work was never hit"
    assert {"study", "export", "predictions as CSV", "predictions as Parquet"} <= set(told["by_job"])
