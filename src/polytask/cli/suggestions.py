"""What to give in place of an option that a verb does not have."""

from __future__ import annotations

from typing import Any, get_origin

from polytask.errors import UnknownNameError

__all__ = ["explain_unknown"]


def explain_unknown(error: Any) -> None:
    """Make the parser's error about an unknown option say what to do; errors of other kinds are left as they are.

    The parser's class for it is private, so it is known by what it holds.
    """
    if not hasattr(error, "possibilities") or error.ctx is None:
        return
    parameters = error.ctx.command.params
    near = UnknownNameError.nearest(
        error.option_name, [option for parameter in parameters for option in parameter.opts]
    )
    error.possibilities = [near] if near else []
    if any(parameter.name == "settings" for parameter in parameters):
        setting = _setting(error.option_name.lstrip("-").replace("-", "_"))
        if setting:
            error.message += f". It is a setting of the recipe: --set {setting}=VALUE."
            error.possibilities = []
        else:
            error.message += ". Settings of a recipe are given by --set NAME=VALUE, such as training.epochs=5."


def _setting(name: str) -> str | None:
    """Where a recipe has a setting of that name."""
    import dataclasses

    from polytask.recipe import Recipe, SourceSpec
    from polytask.training.settings import Settings

    if name in {field.name for field in dataclasses.fields(Settings)}:
        return f"training.{name}"
    for model in (Recipe, SourceSpec):
        if name in model.model_fields:
            is_mapping = get_origin(model.model_fields[name].annotation) is dict
            return f"{name}.COLUMN" if is_mapping and model is SourceSpec else name
    return None
