"""Arms: ways of learning the tasks that a study compares, one file each."""

from __future__ import annotations

from polytask.registry import Registry

__all__ = ["registry"]

registry = Registry(role="arm", packages=("polytask.study.arms",), base="polytask.study.arm:Arm")
