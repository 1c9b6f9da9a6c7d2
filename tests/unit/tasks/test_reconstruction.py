"""Reconstruction: what is learned from inputs, losses against NumPy, and that it helps rows without labels."""

import json

import numpy as np
import pytest
import torch

from polytask.errors import TargetError
from polytask.tasks import Reconstruction, task_from_options


def inputs(n=50, seed=0):
    g = torch.Generator().manual_seed(seed)
    numeric = torch.randn(n, 3, generator=g) * torch.tensor([1.0, 10.0, 0.0]) + torch.tensor([0.0, 5.0, 2.0])
    return {"numeric": numeric, "categorical": torch.randint(1, 4, (n, 2), generator=g)}


def fitted(**options):
    task = Reconstruction(name="inputs", **options)
    task.fit_inputs(inputs())
    return task


def test_targets_are_the_inputs_in_standard_units():
    task = fitted()
    targets, observed = task.encode_inputs(inputs())
    x = inputs()["numeric"].double().numpy()
    assert np.allclose(targets[:, :2], ((x - x.mean(0)) / x.std(0).clip(1e-30))[:, :2], atol=1e-5)
    assert not observed[:, 2].any(), "an input that does not vary has no target"
    assert (targets[:, 3:] == inputs()["categorical"].numpy()).all()
    assert task.n_outputs == 3 + 4 + 4


def test_losses_against_numpy_and_one_for_the_best_constant():
    task = fitted()
    targets, observed = map(torch.as_tensor, task.encode_inputs(inputs()))
    z = torch.randn(50, task.n_outputs, generator=torch.Generator().manual_seed(1)).double()
    losses = task.label_losses(z, targets).numpy()
    logits = z[:, 3:7].numpy()
    codes = inputs()["categorical"][:, 0].numpy()
    shares = np.bincount(codes) / len(codes)
    entropy = -sum(p * np.log(p) for p in shares if p > 0)
    expected = (np.log(np.exp(logits).sum(1)) - logits[np.arange(50), codes]) / entropy
    assert np.allclose(losses[:, 3], expected)
    assert np.allclose(losses[:, 1], (z[:, 1] - targets[:, 1]).square())
    constant = task.initial_bias().expand(50, -1)
    each = task.label_losses(constant, targets).numpy()
    assert np.allclose(each.mean(0)[observed.numpy().all(0)], 1.0, atol=0.01)
    assert task.evaluate(constant, targets, observed)["relative_error"] == pytest.approx(1.0)


def test_a_code_that_training_never_shows_is_not_scored():
    task = fitted()
    rows = inputs(4, seed=3)
    rows["categorical"][0] = torch.tensor([0, 9])
    _, observed = task.encode_inputs(rows)
    assert observed[0, 3:].tolist() == [False, False]
    assert observed[1:, 3:].all()


def test_missing_values_are_not_scored():
    task = fitted()
    rows = inputs(4, seed=3)
    rows["numeric"][1, 0] = torch.nan
    targets, observed = task.encode_inputs(rows)
    assert observed[:, 0].tolist() == [True, False, True, True]
    assert np.isfinite(targets).all()


def test_answers_come_back_in_the_units_of_the_inputs():
    task = fitted()
    x = inputs(6, seed=2)
    x["categorical"][:] = 2
    values = torch.cat([x["numeric"].double(), x["categorical"].double()], 1).numpy()
    targets, observed = map(torch.as_tensor, task.encode_inputs(x))
    outputs = torch.zeros(6, task.n_outputs, dtype=torch.float64)
    outputs[:, :3] = targets[:, :3]
    outputs[:, [5, 9]] = 50.0
    assert np.allclose(task.decode(outputs).values, values, atol=1e-4)
    scores = task.evaluate(outputs, targets, observed)
    assert scores["mse"] == pytest.approx(0, abs=1e-8)
    assert scores["accuracy"] == 1.0
    assert np.allclose(task.decode(task.outputs_from(task.decode(outputs))).values, values, atol=1e-4)


def test_survives_json_with_its_codes():
    task = fitted(corruption="zero", share=0.1, hidden=(7,))
    again = task_from_options(json.loads(json.dumps(task.options())))
    again.load_state(json.loads(json.dumps(task.state())))
    for mine, theirs in zip(task.encode_inputs(inputs(5)), again.encode_inputs(inputs(5)), strict=True):
        assert (mine == theirs).all()
    assert (again.corruption, again.share, again.hidden) == ("zero", 0.1, (7,))


def test_images_as_bytes():
    task = Reconstruction(name="pixels")
    pixels = torch.randint(0, 256, (20, 3, 4), dtype=torch.uint8)
    task.fit_inputs(pixels)
    targets, _ = task.encode_inputs(pixels)
    values = pixels.double().flatten(1).numpy() / 255
    assert np.allclose(targets, (values - values.mean(0)) / values.std(0), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruption": "blur"}, "swap, zero, noise"),
        ({"share": 1.5}, "between 0 and 1"),
        ({"share": -1}, "between 0 and 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(TargetError, match=message):
        Reconstruction(name="inputs", **options)


def test_inputs_that_do_not_vary_or_have_other_columns_are_refused():
    with pytest.raises(TargetError, match="two different values"):
        Reconstruction(name="inputs").fit_inputs(torch.ones(5, 2))
    with pytest.raises(TargetError, match="2 columns of codes, got 1"):
        fitted().encode_inputs({"numeric": torch.ones(2, 3), "categorical": torch.ones(2, 1, dtype=torch.int64)})
    with pytest.raises(TargetError, match="rows of 5 values, got 6"):
        fitted().encode_inputs({"numeric": torch.ones(2, 4), "categorical": torch.ones(2, 2, dtype=torch.int64)})
