"""Every registered method is documented in the same way, and found by its file's name."""

import inspect
from importlib import import_module

import pytest

from polytask.cli.list_methods import ROLES

METHODS = [(role, name) for role, home in ROLES.items() for name in import_module(home).registry.names()]
# Roles whose methods come from papers, so that each says which.
CITED = {"sharing", "balancers", "linear", "trees", "schedules", "remedies"}
# An arm runs on a fold of a study only, and an engine for a study, so an example of one would be a study.
WITHOUT_EXAMPLE = {"arms", "engines"}
# Methods that no paper introduced.
UNCITED = {("balancers", "equal"), ("balancers", "fixed"), ("sharing", "task_graph"), ("linear", "pooled")}


@pytest.mark.parametrize(("role", "name"), METHODS)
def test_method_is_documented(role: str, name: str) -> None:
    registry = import_module(ROLES[role]).registry
    method = registry.load(name)
    doc = inspect.getdoc(method)
    assert doc is not None
    assert doc.splitlines()[0].endswith(".")
    assert "Example" in doc or role in WITHOUT_EXAMPLE
    assert registry.summary(name) == doc.splitlines()[0]
    assert registry.name_of(method) == name
    if role in CITED and (role, name) not in UNCITED:
        assert "References:" in doc


def test_no_name_is_used_twice() -> None:
    assert len(METHODS) == len(set(METHODS))
