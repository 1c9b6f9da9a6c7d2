"""Made-up tables for the tests of the study."""

import numpy as np
import pandas as pd


def mixed_table(n: int = 150, seed: int = 0, missing: float = 0.3) -> pd.DataFrame:
    """Inputs with holes and categories, and a target of every kind with holes."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=["a", "b", "c", "d"])
    signal = frame["a"] + frame["b"]
    frame["town"] = rng.choice(["x", "y", "z"], n)
    frame["c"] = frame["c"].where(rng.random(n) > 0.1)
    targets = {
        "price": signal + 0.3 * rng.normal(size=n),
        "size": 2 * signal + 0.3 * rng.normal(size=n),
        "ill": np.where(signal + 0.5 * rng.normal(size=n) > 0, "yes", "no"),
        "old": signal + rng.normal(size=n) > 0.3,
        "visits": rng.poisson(np.exp(0.4 * signal)),
        "stars": np.digitize(signal + 0.5 * rng.normal(size=n), [-1, 0, 1]),
        "ward": np.array(["A", "B", "C"])[np.digitize(signal + 0.5 * rng.normal(size=n), [-0.7, 0.7])],
        "wait": signal + rng.normal(size=n),
        "tag 1": signal + rng.normal(size=n) > 0,
        "tag 2": signal - rng.normal(size=n) > 0.5,
    }
    for name, values in targets.items():
        column = pd.Series(values).astype(object)
        frame[name] = column.where(rng.random(n) > missing).infer_objects()
    return frame


TASKS = {
    "price": {},
    "size": {},
    "ill": {},
    "old": {},
    "visits": {"kind": "count"},
    "stars": {"kind": "ordinal"},
    "ward": {},
    "wait": {"kind": "quantile"},
    "tags": {"kind": "multilabel", "target": ["tag 1", "tag 2"]},
}
