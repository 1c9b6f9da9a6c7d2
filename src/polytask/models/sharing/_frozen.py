"""A trunk that is trained already and stays as it is."""

from __future__ import annotations

from torch import nn

__all__ = ["set_frozen", "train_but_frozen"]


def set_frozen(trunk: nn.Module, is_frozen: bool) -> None:
    """Take the trunk's parameters out of training, if it is frozen."""
    if is_frozen:
        trunk.requires_grad_(False)
        trunk.eval()


def train_but_frozen(whole: nn.Module, trunk: nn.Module, is_frozen: bool) -> None:
    """Put a frozen trunk back in prediction: neither dropout nor running statistics may change it."""
    if is_frozen and whole.training:
        trunk.eval()
