"""Options as plain data: whether a method takes them, and in words what is wrong with one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

from polytask.errors import RecipeError, UnknownNameError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["adapter_of", "check_options", "checked_kinds", "in_words"]

_C = TypeVar("_C")
_ADAPTERS: dict[Any, Any] = {}


def adapter_of(cls: type[_C]) -> TypeAdapter[_C]:
    """What reads plain data as a dataclass, made once: to make it costs milliseconds, and a study asks for hundreds."""
    if cls not in _ADAPTERS:
        from pydantic import TypeAdapter

        _ADAPTERS[cls] = TypeAdapter(cls)
    found: TypeAdapter[_C] = _ADAPTERS[cls]
    return found


def in_words(error: Any) -> str:
    """What is wrong with which setting, and what was got, for an error of pydantic's or the items of one.

    Example:
        >>> from pydantic import TypeAdapter, ValidationError
        >>> try:
        ...     TypeAdapter(dict[str, int]).validate_python({"epochs": "many"})
        ... except ValidationError as error:
        ...     print(in_words(error))
        epochs needs a whole number, got 'many'
    """
    items = error.errors() if hasattr(error, "errors") else error
    return "; ".join(_one_in_words(item) for item in items)


def _one_in_words(item: Mapping[str, Any]) -> str:
    where, kind, limits = ".".join(map(str, item["loc"])), str(item["type"]), item.get("ctx", {})
    if kind == "value_error":
        text = str(item["msg"]).removeprefix("Value error, ")
        return f"{where}: {text}" if where else text
    if kind == "missing":
        return f"{where} is missing"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(limits["expected"]))
        near = UnknownNameError.nearest(str(item["input"]), known)
        hint = f" (did you mean {near!r}?)" if near else ""
        return f"{where or 'it'} needs one of {', '.join(known)}, got {item['input']!r}{hint}"
    for end, what in _NEEDS.items():
        if kind.startswith(end):
            need = what.format(**limits)
            break
    else:
        need = str(item["msg"])[:1].lower() + str(item["msg"])[1:]
        return f"{where}: {need}, got {item['input']!r}" if where else f"{need}, got {item['input']!r}"
    return f"{where or 'it'} needs {need}, got {item['input']!r}"


_NEEDS = {
    "dict": "a mapping such as {{name: value}}",
    "mapping": "a mapping such as {{name: value}}",
    "model": "a mapping such as {{name: value}}",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list such as [a, b]",
    "tuple": "a list such as [a, b]",
    "less_than_equal": "a number of at most {le:g}",
    "less_than": "a number below {lt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "greater_than": "a number above {gt:g}",
}
"""By how the type of an error begins, what is needed."""


def check_options(who: str, maker: Callable[..., Any], options: Mapping[str, Any], n_given: int = 0) -> None:
    """Raise if ``maker`` does not take one of ``options``; its first ``n_given`` parameters are no options.

    Raises:
        RecipeError: Naming the option, the nearest one, and all there are.
    """
    parameters = inspect.signature(maker).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    free = list(parameters.values())[n_given:]
    unknown = [name for name in options if name not in {parameter.name for parameter in free}]
    if unknown:
        raise RecipeError(str(UnknownNameError(f"option of {who}", unknown[0], _keywords(free))))


def checked_kinds(who: str, maker: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, whole numbers written as ``10.0`` as whole numbers.

    Raises:
        RecipeError: If an option of plain data is of another kind than the method's signature says.
    """
    parameters = inspect.signature(maker).parameters
    checked = dict(options)
    for name, given in options.items():
        note = parameters[name].annotation if name in parameters else ""
        note = note.replace("tuple[", "Sequence[").replace(", ...]", "]") if isinstance(note, str) else ""
        wanted = [_KINDS.get(part) for part in note.split(" | ")]
        kinds = [kind for kind in wanted if kind is not None]
        if len(kinds) < len(wanted):
            continue
        value = _plain(given)
        if any(fits(value) for _, fits in kinds):
            continue
        if "int" in note.split(" | ") and isinstance(value, float) and value.is_integer():
            checked[name] = int(value)
            continue
        needs = " or ".join(what for what, _ in kinds)
        raise RecipeError(f"Option {name} of {who} takes {needs}; got {given!r}{_hint(value, needs)}.")
    return checked


def _plain(value: Any) -> Any:
    """A number or truth value of NumPy's or PyTorch's as Python's; all else as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _hint(value: Any, needs: str) -> str:
    if isinstance(value, str) and "number" in needs and re.fullmatch(r"[-+]?\d+(\.\d+)?[eE][-+]?\d+", value):
        digits, _, power = value.lower().partition("e")
        digits, power = digits if "." in digits else f"{digits}.0", power if power[0] in "-+" else f"+{power}"
        return f", which YAML reads as a text: write {digits}e{power}"
    return ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def all_fit(values: Any) -> bool:
        return isinstance(values, Iterable) and not isinstance(values, str) and all(fits(_plain(v)) for v in values)

    return all_fit


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("a whole number", _is_whole),
    "float": ("a number", _is_number),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "str": ("a text", _is_text),
    "None": ("null", lambda value: value is None),
    "Sequence[int]": ("a list of whole numbers", _list_of(_is_whole)),
    "Sequence[float]": ("a list of numbers", _list_of(_is_number)),
    "Sequence[str]": ("a list of texts", _list_of(_is_text)),
}
"""By how a signature annotates an option: what it takes, and whether a value is that; others are not checked."""


def _keywords(parameters: Iterable[inspect.Parameter]) -> list[str]:
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
