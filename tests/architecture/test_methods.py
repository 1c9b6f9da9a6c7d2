"""Every registered method is documented in the same way, and found by its file's name."""

import inspect
import re
from importlib import import_module

import pytest

from polytask.cli.list_methods import ROLES

METHODS = [(role, name) for role, home in ROLES.items() for name in import_module(home).registry.names()]
# Roles whose methods come from papers, so that each says which.
CITED = {
    *("tasks", "encoders", "sharing", "balancers", "multipliers", "augmentations"),
    *("schedules", "remedies", "linear", "trees", "measures"),
}
# An arm runs on a fold of a study only, and an engine for a study, so an example of one would be a study.
WITHOUT_EXAMPLE = {"arms", "engines"}
# Methods that no paper introduced.
UNCITED = {
    *(("balancers", "equal"), ("balancers", "fixed"), ("sharing", "task_graph"), ("linear", "pooled")),
    *(("tasks", "multilabel"), ("encoders", "cnn"), ("encoders", "mlp"), ("encoders", "module")),
}
# Roles whose methods are each a formula; the others are architectures, orders of training, whole models or processes.
WITH_FORMULA = {"tasks", "sharing", "balancers", "multipliers", "samplers", "remedies", "linear", "trees", "measures"}
# Roles whose methods say in words what they cost; the site counts what a sharing costs beside ``hard``.
WITH_COST = {
    *("tasks", "encoders", "balancers", "multipliers", "augmentations", "samplers"),
    *("schedules", "remedies", "linear", "trees", "measures", "arms"),
}
COST = re.compile(r"\b(costs?|pass(es)?|memory|grows?|arithmetic|cheap(er|est)?|slower|backward)\b|O\(", re.IGNORECASE)


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


@pytest.mark.parametrize(("role", "name"), METHODS)
def test_card_of_a_method_is_whole(role: str, name: str) -> None:
    """The site's card is the docstring: the formula, what it costs, what it leaves out or does otherwise."""
    doc = inspect.getdoc(import_module(ROLES[role]).registry.load(name)) or ""
    note = doc.partition("\nNote:\n")[2].partition("\nReferences:\n")[0]
    assert note.strip(), (
        f"{role} {name}: a Note says where it differs from the source, what it costs, when not to use it"
    )
    assert role not in WITH_FORMULA or ".. math::" in doc or ":math:" in doc, f"{role} {name} has no formula"
    assert role not in WITH_COST or COST.search(note), f"{role} {name}: the Note has no word on the cost"


def test_no_name_is_used_twice() -> None:
    assert len(METHODS) == len(set(METHODS))
