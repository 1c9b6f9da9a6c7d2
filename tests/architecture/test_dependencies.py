"""Every dependency has a lower and an upper bound, and what was tested is within both."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
ASKED = {
    (extra, needed.name): needed
    for extra, lines in EXTRAS.items()
    for needed in map(Requirement, lines)
    if needed.name != PROJECT["name"]
}
CONSTRAINTS = {
    name.lower().replace("_", "-"): Version(version)
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
}


@pytest.mark.parametrize(("extra", "name"), ASKED)
def test_bounds_on_both_sides_hold_for_what_was_tested(extra, name):
    bounds = ASKED[extra, name].specifier
    assert {"<" if spec.operator in ("<", "<=", "==", "~=") else ">" for spec in bounds} == {"<", ">"}
    tested = CONSTRAINTS[name.lower()]
    assert bounds.contains(tested), f"{tested} of constraints.txt is not within {bounds}"
    # The lowest version of a next major one is not tested, so that it is not within the bounds.
    assert not bounds.contains(Version("9999")), "there is no end to it"


def test_what_is_installed_is_within_the_bounds():
    """Of the core and of every extra whose packages are here, so of what these tests themselves run with."""
    outside = {}
    for (_, name), needed in ASKED.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if not needed.specifier.contains(installed, prereleases=True):
            outside[name] = f"{installed} is not within {needed.specifier}"
    assert not outside


def test_two_extras_ask_for_the_same_bounds():
    by_name: dict[str, set[str]] = {}
    for (_, name), needed in ASKED.items():
        by_name.setdefault(name, set()).add(str(needed.specifier))
    assert {name: bounds for name, bounds in by_name.items() if len(bounds) > 1} == {}
