"""Engines: where the trials of a study are trained, one file each."""

from __future__ import annotations

from polytask.registry import Registry

__all__ = ["registry"]

registry = Registry(role="engine", packages=("polytask.study.engines",), base="polytask.study.engine:Engine")
