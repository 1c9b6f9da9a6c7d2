"""Made-up tables whose truth is known: how related the tasks are, what was not observed, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from polytask.errors import DataError

__all__ = ["Synthetic", "clustered_tasks", "impressions", "mmoe_synthetic", "related_regressions"]


@dataclass(frozen=True)
class Synthetic:
    """A made-up table and its truth.

    Args:
        frame: Inputs and targets.
        inputs: Names of the input columns.
        targets: Names of the target columns.
        truth: What no learner sees, by name: ``weights`` ``[T, D]``, propensities ``[N]`` and the like.
    """

    frame: pd.DataFrame
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    truth: dict[str, np.ndarray] = field(default_factory=dict)


def related_regressions(
    n_tasks: int = 3,
    n_rows: int = 1000,
    *,
    n_inputs: int = 10,
    relatedness: float = 0.8,
    noise: float = 0.1,
    missing: float = 0.0,
    seed: int = 0,
) -> Synthetic:
    r"""Linear regressions whose noise-free targets correlate pairwise as asked.

    .. math:: y_t = x^\top (\sqrt{r}\, u_0 + \sqrt{1 - r}\, u_t) + \sigma \varepsilon

    with orthonormal :math:`u`, standard normal :math:`x` and :math:`\varepsilon`.

    Args:
        n_tasks: Number of targets ``y0``, ``y1`` ...
        n_rows: Number of rows.
        n_inputs: Number of inputs ``x0``, ``x1`` ..., more than tasks.
        relatedness: :math:`r` in 0 to 1: the correlation of any two noise-free targets.
        noise: :math:`\sigma`.
        missing: Share of the labels that are missing at random.
        seed: Of everything random.

    Raises:
        DataError: If an argument is out of range.

    Example:
        >>> made = related_regressions(2, 20_000, relatedness=0.5, noise=0.0)
        >>> bool(abs(made.frame[["y0", "y1"]].corr().iloc[0, 1] - 0.5) < 0.02)
        True
    """
    _check_share(relatedness, "relatedness")
    _check_share(missing, "share of missing labels")
    if n_inputs <= n_tasks:
        raise DataError(f"{n_tasks} tasks need more inputs than tasks, got {n_inputs}.")
    rng = np.random.default_rng(seed)
    directions = _orthonormal(n_tasks + 1, n_inputs, rng)
    weights = np.sqrt(relatedness) * directions[0] + np.sqrt(1 - relatedness) * directions[1:]
    return _linear(weights, n_rows, noise, missing, rng)


def clustered_tasks(
    sizes: Sequence[int] = (3, 3, 3),
    n_rows: int = 1000,
    *,
    n_inputs: int = 20,
    relatedness: float = 0.9,
    noise: float = 0.1,
    missing: float = 0.0,
    seed: int = 0,
) -> Synthetic:
    """Linear regressions in clusters: related within a cluster as asked, and not at all between clusters.

    Args:
        sizes: Number of tasks of each cluster.
        n_rows: Number of rows.
        n_inputs: Number of inputs, at least tasks and clusters together.
        relatedness: In 0 to 1: the correlation of two noise-free targets of a cluster.
        noise: Standard deviation of the noise; the noise-free targets have 1.
        missing: Share of the labels that are missing at random.
        seed: Of everything random.

    Raises:
        DataError: If an argument is out of range.

    Example:
        >>> made = clustered_tasks((2, 1), 10)
        >>> made.targets, made.truth["clusters"].tolist()
        (('y0', 'y1', 'y2'), [0, 0, 1])
    """
    _check_share(relatedness, "relatedness")
    _check_share(missing, "share of missing labels")
    n_tasks, n_clusters = sum(sizes), len(sizes)
    if n_inputs < n_tasks + n_clusters:
        raise DataError(f"{n_tasks} tasks in {n_clusters} clusters need {n_tasks + n_clusters} inputs, got {n_inputs}.")
    rng = np.random.default_rng(seed)
    directions = _orthonormal(n_tasks + n_clusters, n_inputs, rng)
    clusters = np.repeat(np.arange(n_clusters), sizes)
    weights = np.sqrt(relatedness) * directions[clusters] + np.sqrt(1 - relatedness) * directions[n_clusters:]
    made = _linear(weights, n_rows, noise, missing, rng)
    return Synthetic(made.frame, made.inputs, made.targets, {**made.truth, "clusters": clusters})


def mmoe_synthetic(
    p: float = 0.5, n_rows: int = 10_000, *, n_inputs: int = 100, n_sines: int = 10, scale: float = 1.0, seed: int = 0
) -> Synthetic:
    r"""Two regressions whose weight vectors have a given cosine, bent by sums of sines.

    .. math::
        w_1 = c\,u_1, \quad w_2 = c\,(p\,u_1 + \sqrt{1 - p^2}\,u_2), \quad
        y_k = w_k^\top x + \sum_{i=1}^m \sin(\alpha_i w_k^\top x + \beta_i) + \varepsilon_k

    with orthonormal :math:`u_1, u_2`, standard normal :math:`x` and :math:`\varepsilon_k \sim N(0, 0.01)`.

    Args:
        p: Cosine of the two weight vectors, in -1 to 1.
        n_rows: Number of rows.
        n_inputs: Number of inputs, at least 2.
        n_sines: :math:`m`.
        scale: :math:`c`.
        seed: Of everything random; :math:`\alpha_i` is uniform in 0 to 2 and :math:`\beta_i` in 0 to
            :math:`2\pi`, which the paper leaves open.

    Raises:
        DataError: If an argument is out of range.

    Example:
        >>> w1, w2 = mmoe_synthetic(0.3, 10).truth["weights"]
        >>> round(float(w1 @ w2), 6)
        0.3

    References:
        Ma, Zhao, Yi, Chen, Hong, Chi (2018), "Modeling task relationships in multi-task learning with multi-gate
        mixture-of-experts", section 3.3, equations 2 to 4.
    """
    if not -1 <= p <= 1:
        raise DataError(f"The cosine of the weight vectors needs to be in -1 to 1, got {p}.")
    if n_inputs < 2:
        raise DataError(f"Two tasks need at least 2 inputs, got {n_inputs}.")
    rng = np.random.default_rng(seed)
    u1, u2 = _orthonormal(2, n_inputs, rng)
    weights = scale * np.stack([u1, p * u1 + np.sqrt(1 - p**2) * u2])
    alpha, beta = rng.uniform(0, 2, n_sines), rng.uniform(0, 2 * np.pi, n_sines)
    x = rng.standard_normal((n_rows, n_inputs))
    linear = x @ weights.T
    y = linear + np.sin(linear[..., None] * alpha + beta).sum(axis=-1) + 0.1 * rng.standard_normal((n_rows, 2))
    return _table(x, y, {"weights": weights, "alpha": alpha, "beta": beta})


def impressions(
    n_rows: int = 20_000,
    *,
    n_inputs: int = 10,
    click_rate: float = 0.2,
    conversion_rate: float = 0.2,
    relatedness: float = 0.5,
    strength: float = 1.5,
    seed: int = 0,
) -> Synthetic:
    r"""Impressions, clicks and conversions: whether there is a conversion is known for clicks only.

    Both chances are logistic in :math:`x`, with weight vectors of a given cosine; so rows that are clicked are
    not like the others, and a model that learns conversion from clicks alone is biased on all impressions.

    Args:
        n_rows: Number of impressions.
        n_inputs: Number of inputs, at least 2.
        click_rate: Average chance of a click.
        conversion_rate: Average chance of a conversion over all impressions, had they been clicked.
        relatedness: Cosine of the two weight vectors.
        strength: Length of the weight vectors: how much the inputs tell.
        seed: Of everything random.

    Returns:
        Targets ``click`` (0/1), ``conversion`` (0/1, NaN without a click) and ``purchase`` (0/1: click and
        conversion); truth ``click_chance``, ``conversion_chance`` and ``would_convert`` for every impression.

    Raises:
        DataError: If an argument is out of range.

    Example:
        >>> frame = impressions(1000).frame
        >>> bool((frame["conversion"].notna() == (frame["click"] == 1)).all())
        True

    References:
        Ma, Zhao, Huang, Wang, Hu, Zhu, Gai (2018), "Entire space multi-task model", section 2: the setting.
    """
    for share, what in ((click_rate, "click rate"), (conversion_rate, "conversion rate")):
        if not 0 < share < 1:
            raise DataError(f"The {what} needs to be between 0 and 1, got {share}.")
    if not -1 <= relatedness <= 1 or n_inputs < 2:
        raise DataError(f"The cosine needs to be in -1 to 1 and inputs at least 2, got {relatedness} and {n_inputs}.")
    rng = np.random.default_rng(seed)
    u1, u2 = _orthonormal(2, n_inputs, rng)
    x = rng.standard_normal((n_rows, n_inputs))
    click_chance = _chances(strength * (x @ u1), click_rate)
    direction = relatedness * u1 + np.sqrt(1 - relatedness**2) * u2
    conversion_chance = _chances(strength * (x @ direction), conversion_rate)
    click = rng.random(n_rows) < click_chance
    would_convert = rng.random(n_rows) < conversion_chance
    frame = _inputs(x)
    frame["click"] = click.astype(np.int64)
    frame["conversion"] = np.where(click, would_convert, np.nan)
    frame["purchase"] = (click & would_convert).astype(np.int64)
    truth = {
        "click_chance": click_chance,
        "conversion_chance": conversion_chance,
        "would_convert": would_convert.astype(np.int64),
    }
    return Synthetic(frame, tuple(frame.columns[:n_inputs]), ("click", "conversion", "purchase"), truth)


def _linear(weights: np.ndarray, n_rows: int, noise: float, missing: float, rng: np.random.Generator) -> Synthetic:
    n_tasks, n_inputs = weights.shape
    x = rng.standard_normal((n_rows, n_inputs))
    y = x @ weights.T + noise * rng.standard_normal((n_rows, n_tasks))
    y[rng.random(y.shape) < missing] = np.nan
    return _table(x, y, {"weights": weights})


def _table(x: np.ndarray, y: np.ndarray, truth: dict[str, np.ndarray]) -> Synthetic:
    inputs, targets = _inputs(x), tuple(f"y{t}" for t in range(y.shape[1]))
    frame = pd.concat([inputs, pd.DataFrame(y, columns=list(targets))], axis=1)
    return Synthetic(frame, tuple(inputs.columns), targets, truth)


def _inputs(x: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])


def _orthonormal(count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    directions: np.ndarray = np.linalg.qr(rng.standard_normal((width, count)))[0].T
    return directions


def _chances(scores: np.ndarray, mean: float) -> np.ndarray:
    """Logistic chances of the scores, shifted so that their average is ``mean``."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _logistic(scores + middle).mean() < mean else (low, middle)
    return _logistic(scores + low)


def _logistic(scores: np.ndarray) -> np.ndarray:
    chances: np.ndarray = 1 / (1 + np.exp(-scores))
    return chances


def _check_share(value: float, what: str) -> None:
    if not 0 <= value <= 1:
        raise DataError(f"The {what} needs to be in 0 to 1, got {value}.")
