"""The folder is the registry: one method, one file, found by the file's name.

A room that holds methods is a package; each module in it that does not start with an underscore, and is not
named in ``besides``, holds one method: one public class of the room's role. The module is imported when the
method is asked for. Other distributions add methods through the entry-point group ``polytask.<role>``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from polytask.deprecation import current_name, is_old_name
from polytask.errors import RecipeError, UnknownNameError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["Registry", "adapter_of", "check_options", "in_words"]

_C = TypeVar("_C")
_ADAPTERS: dict[Any, Any] = {}

_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Registry:
    """The methods of one role.

    Args:
        role: One word for what the methods are: ``balancer``, ``sharing``. Used in messages, and for the
            entry-point group ``polytask.<role>``.
        packages: The packages whose modules are the methods.
        base: ``module:Class`` of the abstract class that each method is a subclass of.
        besides: Module names in those packages that hold no method.
        noun: What messages call one of them; the role if empty.

    Example:
        >>> from polytask.tasks import registry
        >>> "binary" in registry.names()
        True
        >>> registry.load("binary").__name__
        'Binary'
    """

    role: str
    packages: tuple[str, ...]
    base: str
    besides: frozenset[str] = field(default_factory=frozenset)
    noun: str = ""

    @cached_property
    def _files(self) -> dict[str, tuple[str, Path]]:
        found: dict[str, tuple[str, Path]] = {}
        for package in self.packages:
            spec = importlib.util.find_spec(package)
            if spec is None or spec.submodule_search_locations is None:
                raise ImportError(f"{package} is not a package, so it cannot hold the {self.role} methods.")
            for folder in spec.submodule_search_locations:
                for path in sorted(Path(folder).glob("*.py")):
                    if not path.stem.startswith("_") and path.stem not in self.besides:
                        found[path.stem] = (f"{package}.{path.stem}", path)
        return found

    @cached_property
    def _plugins(self) -> dict[str, importlib.metadata.EntryPoint]:
        return {entry.name: entry for entry in importlib.metadata.entry_points(group=f"polytask.{self.role}")}

    def names(self) -> list[str]:
        """Every name, sorted; imports nothing."""
        return sorted({*self._files, *self._plugins})

    def knows(self, name: str) -> bool:
        """Whether there is a method of that name, or was and has another one now; imports nothing."""
        return is_old_name(self.role, name) or name in self.names()

    def load(self, name: str) -> type[Any]:
        """Import the method and return its class; a name that it once had works with a warning.

        Raises:
            UnknownNameError: If there is no such method.
        """
        name = current_name(self.role, name)
        if name in self._files:
            module_name, _ = self._files[name]
            return self._class_in(importlib.import_module(module_name))
        if name in self._plugins:
            loaded: type[Any] = self._plugins[name].load()
            return loaded
        raise UnknownNameError(self.noun or self.role, name, self.names())

    def create(self, name: str, /, *args: Any, **options: Any) -> Any:
        """Make the method's object, with a helpful error for an unknown option.

        Raises:
            UnknownNameError: If there is no such method.
            RecipeError: If an option is not one of the method's, or is a text where it takes a number, and the like.
        """
        cls = self.load(name)
        who = f"{self.role} {name!r}"
        check_options(who, cls, options, n_given=len(args))
        return cls(*args, **_checked_kinds(who, cls, options))

    def summary(self, name: str) -> str:
        """First line of the method's class docstring; only methods of other distributions are imported for it."""
        if name not in self._files:
            return _first_line(inspect.getdoc(self.load(name)) or "")
        tree = ast.parse(self._files[name][1].read_text(encoding="utf-8"))
        docs = {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.ClassDef)}
        # A file may hold smaller classes beside the method's, which is called as the file is.
        named = (doc for cls, doc in docs.items() if cls.lower() == name.replace("_", ""))
        return _first_line(next(named, next(iter(docs.values()), "")))

    def by_class_name(self, class_name: str) -> type[Any]:
        """The class called ``class_name``, found by reading the files and importing only the one that has it.

        Raises:
            AttributeError: If no file defines it (so that a package's ``__getattr__`` can call this).
        """
        for module_name, path in self._files.values():
            if class_name in _CLASS.findall(path.read_text(encoding="utf-8")):
                found: type[Any] = getattr(importlib.import_module(module_name), class_name)
                return found
        raise AttributeError(f"No {self.role} class named {class_name!r}.")

    def class_names(self) -> list[str]:
        """The public classes of all the files, sorted; imports nothing."""
        texts = (path.read_text(encoding="utf-8") for _, path in self._files.values())
        return sorted({name for text in texts for name in _CLASS.findall(text) if name[0] != "_"})

    def name_of(self, cls: type[Any]) -> str:
        """The name under which a class of this registry is known.

        Raises:
            UnknownNameError: If it is not in this registry.
        """
        name = cls.__module__.rpartition(".")[2]
        if name in self._files and self._files[name][0] == cls.__module__:
            return name
        for known, entry in self._plugins.items():
            if entry.value == f"{cls.__module__}:{cls.__qualname__}":
                return known
        raise UnknownNameError(self.role, cls.__qualname__, self.names())

    def _class_in(self, module: Any) -> type[Any]:
        base_module, _, base_name = self.base.partition(":")
        base = getattr(importlib.import_module(base_module), base_name)
        candidates = [
            value
            for key, value in vars(module).items()
            if inspect.isclass(value)
            and issubclass(value, base)
            and value.__module__ == module.__name__
            and not key.startswith("_")
            and not inspect.isabstract(value)
        ]
        if len(candidates) != 1:
            raise ImportError(
                f"{module.__name__} must define exactly one public {base_name}, "
                f"found {[c.__name__ for c in candidates]}."
            )
        return candidates[0]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


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


def _checked_kinds(who: str, maker: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
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
