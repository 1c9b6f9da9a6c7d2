"""The directive ``cards``: a card for each method of a role, from the registries and the methods' own docstrings."""

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from costs import beside_hard, size_of
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from polytask.cli.list_methods import ROLES
from polytask.registry import Registry

FACTS = {
    "needs": "It sees",
    "keeps": "Laws it is held to",
    "directed": "Directed",
    "interleaved": "Private parameters among shared ones",
    "exports": "Can be exported",
    "sums_to_one": "Weights are shares",
}
"""What a class says about itself, by the name of the attribute."""


def registry_of(role: str) -> Registry:
    return import_module(ROLES[role]).registry


def home_of(role: str, method: type[Any]) -> str:
    """Where users import the method from: the room, where it is there."""
    home = import_module(ROLES[role])
    public = getattr(home, method.__name__, None) is method
    return f"{ROLES[role] if public else method.__module__}.{method.__name__}"


def card(role: str, name: str) -> Iterator[str]:
    """The lines of one card."""
    method = registry_of(role).load(name)
    yield from (f".. _method-{role}-{name}:", "", name, "-" * len(name), "")
    for attribute, words in FACTS.items():
        value = getattr(method, attribute, None)
        if isinstance(value, (frozenset, set, tuple)):
            yield f":{words}: {', '.join(f'``{item}``' for item in sorted(value)) or 'none'}"
        elif isinstance(value, bool):
            yield f":{words}: {'yes' if value else 'no'}"
    ranges = getattr(method, "ranges", None)
    if ranges:
        tried = "; ".join(f"``{option}``: {_range(values)}" for option, values in ranges.items())
        yield f":What a search tries: {tried}"
    if role == "sharing":
        yield f":Cost beside ``hard``: {beside_hard(name)}"
    if role == "encoders" and (size := size_of(name)):
        yield f":Size by default: {size}"
    yield from ("", f".. autoclass:: {home_of(role, method)}", "")


def _range(values: Any) -> str:
    return ", ".join(f"``{value}``" for value in values) if isinstance(values, tuple) else str(values)


def overview(role: str, names: Iterable[str]) -> Iterator[str]:
    """A table of the methods, a line each."""
    yield from (".. list-table::", "   :widths: 1 3", "")
    for name in names:
        summary = registry_of(role).summary(name)
        yield from (f"   * - :ref:`{name} <method-{role}-{name}>`", f"     - {summary}")
    yield ""


class Cards(SphinxDirective):
    """``.. cards:: balancers``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        role = self.arguments[0]
        names = registry_of(role).names()
        lines = [*overview(role, names), *(line for name in names for line in card(role, name))]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app) -> dict[str, bool]:
    app.add_directive("cards", Cards)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
