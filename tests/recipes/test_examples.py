"""Every example runs as it stands, for an epoch, and shows joint beside single."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from polytask.data import spoken_syllables, write_wav

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
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
    "vision": ["--rows", "160", "--longer", "1"],
}
# Examples about something else than joint beside single say so by another word of their output.
SHOWS = {
    "add_a_task": "equal: True",
    "constrained": "recall, test",
    "own_loop": "R2",
    "recommender": "esmm",
    "sequence": "digit forgotten",
}


def shape(printed: str) -> list[str]:
    """Headings of the tables that were printed; of an output without a table all lines, numbers and gaps left out."""
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.strip()]
    headings = [above for above, line in itertools.pairwise(lines) if set(line) == {"─"}]
    return sorted(set(headings)) or [" ".join(re.sub(r"-?[\d.,%]+", "#", line).split()) for line in lines]


def recorded(name: str) -> str:
    """What the documentation shows as the output of ``python examples/NAME.py`` without options."""
    command = f"$ python examples/{name}.py"
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "outputs").glob("*.txt"))]
    (printed,) = (
        part for text in texts for part in f"\n{text}".split("\n$ ")[1:] if f"$ {part}".splitlines()[0] == command
    )
    return printed.partition("\n")[2]


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--epochs", "1", *SHORT.get(name, [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    expected = SHOWS.get(name)
    assert expected in done.stdout if expected else ("joint" in done.stdout and "single" in done.stdout)
    assert set(shape(recorded(name))) <= set(shape(done.stdout)), "docs/outputs is of another version of the example"


def test_digits_and_letters_take_any_balancer(tmp_path: Path) -> None:
    options = ["--rows", "200", "--epochs", "1", "--balancer", "nash_mtl"]
    command = [sys.executable, str(EXAMPLES / "digits_and_letters.py"), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_feed_of_choices_only_and_voices_from_a_folder_of_speakers_never_heard(tmp_path: Path) -> None:
    made = spoken_syllables(6, n_speakers=4, n_syllables=3)
    (tmp_path / "voices").mkdir()
    for i, (wave, speaker, word) in enumerate(
        zip(made.waves, *map(made.labels.get, ("speaker", "syllable")), strict=True)
    ):
        write_wav(tmp_path / "voices" / f"{speaker}-{word}-{i}.wav", wave[: len(wave) - 60 * (i % 9)], made.rate)
    two = ",".join(sorted(set(made.labels["speaker"].astype(str)))[:2])
    names = ["--data", "voices", "--pattern", "(?P<speaker>[^-]+)-(?P<word>[^-]+)-[0-9]+"]
    for name, options in (
        ("feed", ["--rows", "4000", "--negatives", "2"]),
        ("separation", [*names, "--unheard", two, "--rows", "60"]),
        ("synthesis", names),
    ):
        command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--epochs", "1", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "joint" in done.stdout
