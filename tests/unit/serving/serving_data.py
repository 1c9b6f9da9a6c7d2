"""Made-up rows for the tests of serving."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from polytask.bundle import SCHEMA

SCHEMA_BUNDLE = Path(__file__).parents[2] / "fixtures" / "bundles" / f"schema-{SCHEMA}"


def everything(n: int = 80) -> pd.DataFrame:
    """A column and a target of every kind, with holes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    return pd.DataFrame(
        {
            "length": np.where(rng.random(n) < 0.2, np.nan, x),
            "is_new": rng.random(n) < 0.5,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 500, n), "D"),
            "town": rng.choice(["Bern", "Graz <b>", "São Paulo", None], n),
            "code": rng.choice([1, 2, 3], n).astype(str),
            "price": 100 + 5 * x + rng.normal(size=n),
            "ill": np.where(x > 0, "yes", "no"),
            "visits": rng.poisson(np.exp(0.3 * x)),
            "stars": np.digitize(x, [-1, 0, 1]),
            "tag 1": x > 0.5,
            "tag 2": x < 0.3,
        }
    )


TASKS = {"price": {}, "ill": {}, "visits": {"kind": "count"}, "stars": {"kind": "ordinal"},
         "tags": {"kind": "multilabel", "target": ["tag 1", "tag 2"]}, "wait": {"kind": "quantile", "target": "price"}}  # fmt: skip
INPUTS = ["length", "is_new", "day", "town", "code"]


def rows_of(frame: pd.DataFrame) -> list[dict]:
    """The rows as a client sends them."""
    return json.loads(frame.to_json(orient="records", date_format="iso"))
