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
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from polytask.deprecation import current_name, is_old_name
from polytask.errors import UnknownNameError
from polytask.options import check_options, checked_kinds

__all__ = ["Registry"]

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
        return cls(*args, **checked_kinds(who, cls, options))

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
