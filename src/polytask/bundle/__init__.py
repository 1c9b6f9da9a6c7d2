"""A bundle: what a run leaves, ready to predict: tasks, transforms, one or several models, provenance.

A folder of JSON, safetensors and skops files. Reading one runs no code of it: names in it are looked up among the known
methods, estimators may be of a fixed list of types only, and everything else is numbers and text.
"""

from __future__ import annotations

from polytask.bundle.bundle import SCHEMA, Bundle, shape_of
from polytask.bundle.estimators import Estimators, Member
from polytask.bundle.lines import Lines
from polytask.bundle.model import BundledModel
from polytask.bundle.network import Network
from polytask.bundle.pooled import Pooled
from polytask.bundle.reading import load

__all__ = ["SCHEMA", "Bundle", "BundledModel", "Estimators", "Lines", "Member", "Network", "Pooled", "load", "shape_of"]
