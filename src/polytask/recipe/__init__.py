"""A recipe: a whole run as data."""

from __future__ import annotations

from polytask.recipe.recipe import Recipe
from polytask.recipe.specs import Choice, ReadsSpec, SourceSpec, SplitSpec

__all__ = ["Choice", "ReadsSpec", "Recipe", "SourceSpec", "SplitSpec"]
