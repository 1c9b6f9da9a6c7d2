"""Many trainings of one shape as one program: folds, seeds, single-task twins, draws of settings."""

from polytask.training.stacked.fitting import MEMORY, Asked, Stacked, fit_stacked
from polytask.training.stacked.stackable import why_alone

__all__ = ["MEMORY", "Asked", "Stacked", "fit_stacked", "why_alone"]
