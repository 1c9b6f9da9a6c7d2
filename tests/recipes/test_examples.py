"""Every example runs as it stands, for an epoch, and shows joint beside single."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# Options that make an example short; every example but own_loop reads --epochs.
SHORT = {
    "digits_and_letters": ["--rows", "300"],
    "feed": ["--rows", "8000"],
    "separation": ["--rows", "80"],
    "speech": ["--rows", "60", "--affinity"],
    "synthesis": ["--listen", "made"],
    "patients": ["--patients", "120"],
    "pretrained": ["--rows", "60", "--steps", "10"],
    "relations": ["--rows", "90"],
    "sequence": ["--rows", "260", "--only", "joint,plain,ewc,replay,adapters"],
    "vision": ["--rows", "160"],
}
# Examples about something else than joint beside single say so by another word of their output.
SHOWS = {
    "add_a_task": "equal: True",
    "constrained": "recall, test",
    "own_loop": "R2",
    "recommender": "esmm",
    "sequence": "digit forgotten",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--epochs", "1", *SHORT.get(name, [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    expected = SHOWS.get(name)
    assert expected in done.stdout if expected else ("joint" in done.stdout and "single" in done.stdout)


def test_digits_and_letters_take_any_balancer(tmp_path: Path) -> None:
    options = ["--rows", "200", "--epochs", "1", "--balancer", "nash_mtl"]
    command = [sys.executable, str(EXAMPLES / "digits_and_letters.py"), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
