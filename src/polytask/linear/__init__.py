"""Linear: convex multi-task models with the scikit-learn API.

Each file holds one model. ``fit(X, Y)`` takes a matrix ``Y`` with one column per task, NaN where a label is missing,
or one ``X`` and one ``y`` per task as lists; ``predict`` answers in the form that it is asked in. Every model has a
cross-validated version under its name and ``CV``, which chooses the strength of the sharing from the data.

Example:
    >>> from polytask.linear import TraceNormCV, registry
    >>> "trace_norm" in registry.names()
    True
    >>> TraceNormCV(cv=3)
    TraceNormCV(cv=3)
"""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["LinearModel", "LinearPredictor", "registry"]

registry = Registry(
    role="linear model",
    packages=("polytask.linear",),
    base="polytask.linear.model:LinearModel",
    besides=frozenset({"cross_validated", "model", "moments", "penalties", "proximal", "rows"}),
)


def __getattr__(name: str) -> Any:
    if name in ("LinearModel", "LinearPredictor"):
        from polytask.linear import model

        return getattr(model, name)
    if name.endswith("CV"):
        from polytask.linear.cross_validated import cross_validated

        model_class: Any = registry.by_class_name(name.removesuffix("CV"))
        return cross_validated(model_class)
    return registry.by_class_name(name)


def __dir__() -> list[str]:
    names = registry.class_names()
    return sorted([*__all__, *names, *(f"{name}CV" for name in names)])
