"""Measures what each extra adds on disk, from the packages that are installed: `python docs/reference/extras.py`.

Of an extra what it needs and the core does not; a package that two extras need counts for both. Where a package
of an extra is not here, its name is said. Compiled bytecode, which Python adds, is left out.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = "polytask"
TABLE = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = TABLE["optional-dependencies"]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def needs(name: str, extra: str = "") -> frozenset[tuple[str, str]]:
    """What a package, with one of its extras, asks for here: names and extras."""
    found = set()
    ours = [*TABLE["dependencies"], *EXTRAS.get(extra, ())]
    for line in ours if name == PROJECT else metadata.requires(name) or ():
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            found |= {(plain(needed.name), ""), *((plain(needed.name), asked) for asked in needed.extras)}
    return frozenset(found)


def closure(extra: str = "") -> set[str]:
    """Every package that is installed with the project and one of its extras.

    Raises:
        metadata.PackageNotFoundError: If one of them is not installed here.
    """
    seen: set[tuple[str, str]] = set()
    left = {(PROJECT, extra)}
    while left:
        one = left.pop()
        seen.add(one)
        left |= needs(*one) - seen
    return {name for name, _ in seen} - {PROJECT}


@cache
def megabytes(package: str) -> float:
    """Of all files that the package installed, bytecode left out."""
    files = metadata.files(package) or ()
    paths = [file.locate() for file in files if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def measured() -> tuple[float, dict[str, float | str]]:
    """Megabytes of the core, and of each extra beyond it, or what is missing."""
    core = closure()
    sizes: dict[str, float | str] = {}
    for extra in EXTRAS:
        try:
            sizes[extra] = sum(megabytes(name) for name in closure(extra) - core)
        except metadata.PackageNotFoundError as missing:
            sizes[extra] = f"not measured, {missing.name} is not installed"
    return sum(megabytes(name) for name in core), sizes


if __name__ == "__main__":
    core, sizes = measured()
    print(f"{'core':12} {core:6.0f} MB; torch {megabytes('torch'):.0f} MB, numpy {megabytes('numpy'):.0f} MB")
    for extra, size in sizes.items():
        print(f"{extra:12} {size:6.0f} MB" if isinstance(size, float) else f"{extra:12} {size}")
