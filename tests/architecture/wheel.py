"""Installs the wheel into an environment that has nothing else, and uses it there: `make wheel-check`.

Some minutes, and it needs the package index that `pip` is set to. `--environment` keeps the environment, so that a second
look at another wheel takes seconds. Only the standard library is imported here; mypy is that of whoever calls.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TYPED = """
import polytask

bundle = polytask.load("run/bundle")
reveal_type(bundle)
reveal_type(polytask.__version__)
bundle.predict(nonsense=3)
"""


def run(*command: str | Path, status: int = 0) -> str:
    """Output of a command that must end with a status, away from the sources."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=clean)
    if done.returncode != status:
        sys.exit(
            f"{' '.join(map(str, command))} ended with {done.returncode}, not {status}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout + done.stderr


def expect(condition: bool, what: str) -> None:
    """One line of the check."""
    if not condition:
        sys.exit(f"not so: {what}")
    print(f"ok: {what}", flush=True)


def check_files(wheel: Path, sdist: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "polytask"
    sources = {f"polytask/{path.relative_to(package).as_posix()}" for path in package.rglob("*") if path.is_file()}
    sources = {name for name in sources if "__pycache__" not in name}
    expect(sources <= held, f"the wheel holds all {len(sources)} files of the package, py.typed among them")
    rest = {name for name in held - sources if not name.startswith("polytask-")}
    expect(not rest, f"and nothing else {sorted(rest) or ''}")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "constraints.txt", "Makefile", "docs/index.md"}
    expect(needed <= names, "the source distribution holds what is needed to build, test and cite")


def write_table(path: Path) -> None:
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["a", "b", "colour", "price", "sold"])
        for row in range(120):
            a, b = draw.gauss(0, 1), draw.gauss(0, 1)
            sold = "" if row % 3 == 0 else "yes" if a > b else "no"
            out.writerow([a, b, draw.choice(["red", "blue"]), a + b, sold])


def check_use(python: Path, wheel: Path) -> None:
    """Help, a training, answers, a study with its page, and what is said of an extra that is not there."""
    polytask = python.with_name("polytask")
    version = wheel.name.split("-")[1]
    said = run(python, "-c", "import polytask; print(polytask.__version__, polytask.__file__)").split()
    expect(said[0] == version and "site-packages" in said[1], f"import polytask gives {version}")
    expect("study" in run(polytask, "--help"), "polytask --help")
    expect("nash_mtl" in run(polytask, "list", "balancers"), "polytask list balancers")
    write_table(Path("table.csv"))
    run(polytask, "fit", "table.csv", "--targets", "price,sold", "--set", "training.epochs=2", "--out", "run")
    run(polytask, "predict", "run", "table.csv", "--out", "answers.csv")
    expect(len(Path("answers.csv").read_text().splitlines()) == 121, "polytask fit and predict: an answer for each row")
    arms = ["--arms", "joint,single,linear", "--folds", "2", "--budget", "none", "--set", "training.epochs=2"]
    run(polytask, "study", "table.csv", "--targets", "price,sold", "--out", "study", *arms)
    expect("verdict" in Path("study/page.html").read_text(encoding="utf-8").lower(), "polytask study, and its page")
    refused = run(polytask, "serve", "run", status=2)
    expect("pip install 'polytask[serve]'" in refused, "a verb whose extra is not there says which one it is")


def check_types(python: Path) -> None:
    """A stranger's mypy sees the types of what was installed."""
    Path("typed.py").write_text(TYPED, encoding="utf-8")
    options = ["--strict", "--cache-dir", "types", "--python-executable", str(python)]
    said = run(sys.executable, "-m", "mypy", *options, "typed.py", status=1)
    expect('Revealed type is "polytask.bundle' in said, "mypy --strict knows what polytask.load gives")
    expect("Unexpected keyword argument" in said and "Found 1 error" in said, "and finds the one wrong call")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", help="with one wheel and one sdist")
    asked.add_argument("--environment", type=Path, help="where to make the environment; a temporary folder if left out")
    options = asked.parse_args()
    (wheel,), (sdist,) = (sorted(options.folder.resolve().glob(end)) for end in ("*.whl", "*.tar.gz"))
    check_files(wheel, sdist)
    with tempfile.TemporaryDirectory() as folder:
        place = (options.environment or Path(folder) / "environment").resolve()
        python = place / "bin" / "python"
        if not python.exists():
            venv.create(place, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
        run(*install, wheel)
        run(*install, "--no-deps", "--force-reinstall", wheel)
        os.chdir(folder)
        expect("No broken requirements" in run(python, "-m", "pip", "check"), "pip check")
        check_use(python, wheel)
        check_types(python)
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
