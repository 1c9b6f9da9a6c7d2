"""An old name works, says what to use and when it ends, and is gone in the version that it named."""

import ast
from pathlib import Path

import pytest
from packaging.version import Version

import polytask
from polytask import deprecation
from polytask.balancing import registry
from polytask.deprecation import Renamed

SOURCE = Path(polytask.__file__).parent


def endings_in(source: str, name: str) -> dict[str, str]:
    """Every ``warn_deprecated(..., ends=...)`` of a file, by place; an ending that is no literal is an error."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if (
            not isinstance(node, ast.Call)
            or getattr(node.func, "id", getattr(node.func, "attr", "")) != "warn_deprecated"
        ):
            continue
        ends = next((keyword.value for keyword in node.keywords if keyword.arg == "ends"), None)
        assert isinstance(ends, ast.Constant), (
            f"{name}:{node.lineno}: the version in which it ends is to be written out"
        )
        found[f"{name}:{node.lineno}"] = ends.value
    return found


def overdue(endings: dict[str, str], version: str) -> list[str]:
    return [place for place, ends in endings.items() if Version(ends) <= Version(version)]


def test_nothing_outlives_the_version_that_it_named():
    endings = {f"{role} {old}": renamed.ends for (role, old), renamed in deprecation.METHODS.items()}
    for path in SOURCE.rglob("*.py"):
        if path.name != "deprecation.py":
            endings |= endings_in(path.read_text(encoding="utf-8"), path.name)
    assert overdue(endings, polytask.__version__) == []


def test_what_is_overdue_is_found():
    endings = endings_in('def f():\n    warn_deprecated("a", instead="b", ends="0.3.0")\n', "made_up.py")
    assert endings == {"made_up.py:2": "0.3.0"}
    assert overdue(endings, "0.2.9") == []
    assert overdue(endings, "0.3.0") == overdue(endings, "1.0.0") == ["made_up.py:2"]
    with pytest.raises(AssertionError, match="written out"):
        endings_in("warn_deprecated('a', instead='b', ends=VERSION)", "made_up.py")


def test_a_method_that_was_renamed_is_found_by_its_old_name(monkeypatch):
    monkeypatch.setattr(deprecation, "METHODS", {("balancer", "nash"): Renamed("nash_mtl", ends="0.3.0")})
    with pytest.warns(FutureWarning, match=r"'nash' is deprecated and ends in polytask 0\.3\.0\. Use 'nash_mtl'"):
        assert registry.load("nash") is registry.load("nash_mtl")


def test_what_a_renamed_method_is_called_now_is_there():
    for (role, old), renamed in deprecation.METHODS.items():
        known = [name for name in _registries() if name.role == role]
        assert known, role
        assert renamed.new in known[0].names()
        assert old not in known[0].names()


def _registries():
    from importlib import import_module

    from polytask.cli.list_methods import ROLES

    return [import_module(home).registry for home in ROLES.values()]


def test_a_recipe_takes_an_old_name(monkeypatch):
    from polytask import Recipe
    from polytask.data.generators import related_regressions

    monkeypatch.setattr(deprecation, "METHODS", {("balancer", "nash"): Renamed("nash_mtl", ends="0.3.0")})
    table = related_regressions(2, 60, n_inputs=3).frame
    with pytest.warns(FutureWarning, match="nash_mtl"):
        run = Recipe(tasks=["y0", "y1"], balancer="nash", training={"epochs": 1}).run(table)
    assert len(run.predict(table.head(2))["y0"].values) == 2
