"""Runs the commands of the transcripts in this folder again and writes what they print now.

    python docs/outputs/make.py                     # all of them: about a quarter of an hour of one processor
    python docs/outputs/make.py mixed-table text    # some

A transcript is a text file: each line that begins with `$ ` is a command, and the lines below it are what the command
printed on standard output. All commands of a transcript run in one temporary folder. The processor seconds of each
command are printed here; they are those of the table in `docs/tutorials/index.md`.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PROMPT = "$ "


def commands_of(transcript: Path) -> list[str]:
    lines = transcript.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]


def runnable(command: str) -> list[str]:
    """The words of a command that runs from any folder, with this Python."""
    words = shlex.split(command)
    first = [sys.executable] if words[0] == "python" else [sys.executable, "-m", words[0]]
    return first + [str(ROOT / word) if word.startswith("examples/") else word for word in words[1:]]


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def printed_by(command: str, folder: str) -> str:
    """Standard output of a command, which must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = processor_seconds()
    done = subprocess.run(runnable(command), capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode != 0:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    print(f"{processor_seconds() - before:6.0f} s  {command}", flush=True)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return "\n".join(lines).strip("\n")


def make(transcript: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = [f"{PROMPT}{command}\n{printed_by(command, folder)}\n" for command in commands_of(transcript)]
    transcript.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("names", nargs="*", help="transcripts, without .txt; all of them if left out")
    names = asked.parse_args().names or sorted(path.stem for path in FOLDER.glob("*.txt"))
    for name in names:
        make(FOLDER / f"{name}.txt")
