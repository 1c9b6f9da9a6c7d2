"""Separation, held against torch.stft, torchmetrics and brute force."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_distortion_ratio

from polytask import Recipe
from polytask.data import mixed, separated, spoken_syllables
from polytask.errors import DataError, InputError, TargetError
from polytask.tasks import Separation
from polytask.tasks._spectra import spectra, waves_of
from polytask.testing import check_task
from polytask.training.data_sets import ArrayData

WINDOW, HOP = 32, 8


def parts(n=6, k=2, length=120, seed=0):
    return np.random.default_rng(seed).normal(size=(n, k, length)).astype(np.float32)


def fitted(**options):
    task = Separation(name="voices", window=WINDOW, hop=HOP, **options)
    task.fit(parts())
    return task


@pytest.mark.parametrize("length", [1, 63, 640, 777])
def test_spectra_are_those_of_torch_and_the_way_back_is_exact(length):
    wave = torch.from_numpy(np.random.default_rng(0).normal(size=(2, length)))
    hann = torch.hann_window(256, dtype=torch.float64)
    wanted = torch.stft(wave, 256, 64, window=hann, center=True, pad_mode="constant", return_complex=True)
    found = spectra(wave, 256, 64)
    torch.testing.assert_close(found, wanted.transpose(1, 2))
    torch.testing.assert_close(waves_of(found, 256, 64, length), wave)


@pytest.mark.parametrize("options", [{}, {"is_ordered": True}])
def test_waves_keep_the_contract(options):
    check_task(lambda: Separation(name="voices", window=WINDOW, hop=HOP, **options), parts(9))


@pytest.mark.parametrize("is_ordered", [False, True])
def test_the_loss_is_that_of_the_best_order_of_the_parts(is_ordered):
    task = fitted(is_ordered=is_ordered)
    waves = torch.from_numpy(parts(3)).double()
    z = torch.randn(3, 16, task.n_outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hann = torch.hann_window(WINDOW, dtype=torch.float64)
    for row in range(3):
        found = torch.stft(
            waves[row], WINDOW, HOP, window=hann, center=True, pad_mode="constant", return_complex=True
        ).transpose(1, 2)
        whole = found.sum(0)
        masks = z[row].unflatten(-1, (2, -1)).transpose(0, 1)
        orders = [(0, 1)] if is_ordered else list(itertools.permutations(range(2)))
        costs = []
        for order in orders:
            aligned = found[list(order)].abs() * torch.cos(found[list(order)].angle() - whole.angle())
            costs.append((masks * whole.abs() - aligned).square().sum() / whole.abs().square().sum())
        torch.testing.assert_close(task.label_losses(z[row : row + 1], waves[row : row + 1])[0], min(costs))


def test_constant_masks_of_ordered_parts_are_the_least_squares_ones():
    loud = parts(20)
    loud[:, 1] *= 0.3  # speech before a quieter noise
    task = Separation(name="voices", window=WINDOW, hop=HOP, is_ordered=True)
    task.fit(loud)
    targets = torch.from_numpy(loud)
    bias = task.initial_bias().double().requires_grad_()
    task.label_losses(bias.expand(20, 1, -1), targets.double()).sum().backward()
    assert bias.grad.abs().max() < 1e-4
    assert task.initial_bias()[: WINDOW // 2 + 1].mean() > 0.8


def test_ratios_are_those_of_torchmetrics_and_a_perfect_mask_is_near_the_truth():
    task = fitted()
    waves = parts(4, seed=3)
    targets, observed = (torch.from_numpy(a) for a in task.encode(waves))
    z = torch.rand(4, 16, task.n_outputs, generator=torch.Generator().manual_seed(1))
    estimate = torch.from_numpy(separated(waves.sum(1), task.decode(z).values, hop=HOP))
    wanted, _ = permutation_invariant_training(
        estimate, torch.from_numpy(waves).double(), scale_invariant_signal_distortion_ratio
    )
    found = task.evaluate(z, targets, observed)
    assert found["si_sdr"] == pytest.approx(wanted.mean().item(), abs=1e-6)
    mixture = torch.from_numpy(waves.sum(1, keepdims=True)).double().expand(-1, 2, -1)
    before = scale_invariant_signal_distortion_ratio(mixture, torch.from_numpy(waves).double()).mean().item()
    assert found["si_sdr_gain"] == pytest.approx(wanted.mean().item() - before, abs=1e-6)
    whole, each = spectra(targets.double().sum(1), WINDOW, HOP), spectra(targets.double(), WINDOW, HOP)
    ideal = (each / whole.unsqueeze(1)).real.transpose(1, 2).flatten(2)
    assert task.evaluate(ideal, targets, observed)["si_sdr_gain"] > found["si_sdr_gain"] + 3
    swapped = ideal.unflatten(-1, (2, -1)).flip(2).flatten(2)
    assert task.evaluate(swapped, targets, observed) == pytest.approx(task.evaluate(ideal, targets, observed))
    constant = task.evaluate(task.constant_outputs(targets), targets, observed)
    assert constant["relative_error"] == pytest.approx(1.0)
    assert constant["si_sdr_gain"] == pytest.approx(0.0, abs=1e-6)


def test_a_silent_part_is_not_counted_and_fewer_moments_stand_for_several_frames():
    task = fitted()
    waves = parts(2)
    waves[0, 1] = 0.0
    targets, observed = (torch.from_numpy(a) for a in task.encode(waves))
    z = torch.rand(2, 4, task.n_outputs, generator=torch.Generator().manual_seed(1))
    found = task.evaluate(z, targets, observed)
    assert all(np.isfinite(value) for value in found.values())
    wide = z.repeat_interleave(4, 1)
    assert task.evaluate(wide, targets, observed) == pytest.approx(found)


def test_waves_that_cannot_be_are_refused():
    task = fitted()
    with pytest.raises(TargetError, match="trained on 2 parts of a mixture, got 3"):
        task.encode(parts(3, 3))
    holes = parts(3)
    holes[1, 0, 5] = np.nan
    with pytest.raises(TargetError, match="missing samples in row 1"):
        task.encode(holes)
    holes[1] = np.nan
    assert task.encode(holes)[1].tolist() == [True, False, True]
    with pytest.raises(TargetError, match=r"shape \[N, K, L\]"):
        task.encode(np.zeros((3, 4)))
    ragged = np.empty(2, dtype=object)
    ragged[:] = [np.zeros((2, 5)), np.zeros((2, 6))]
    with pytest.raises(TargetError, match="one shape"):
        task.encode(ragged)
    for wrong in ("lost", 0.5, True, [["a"]], [[1.0], [1.0, 2.0]]):
        mixed_rows = np.empty(3, dtype=object)
        mixed_rows[:] = [np.zeros((2, 5)), None, wrong]
        with pytest.raises(TargetError, match="needs K waves in row 2, or None"):
            task.encode(mixed_rows)
    for missing in (None, np.nan, np.float32("nan"), pd.NA):
        mixed_rows[2] = missing
        assert task.encode(mixed_rows)[1].tolist() == [True, False, False]
    with pytest.raises(TargetError, match="mixtures of 7 parts, and tries all orders of up to 6 only"):
        Separation(name="voices", window=WINDOW, hop=HOP).fit(parts(3, 7))
    Separation(name="voices", window=WINDOW, hop=HOP, is_ordered=True).fit(parts(3, 7))
    with pytest.raises(TargetError, match="even window"):
        Separation(name="voices", window=5)
    with pytest.raises(InputError, match="2 mixtures need masks"):
        separated(np.zeros((2, 50)), np.zeros((2, 5)))


def test_mixtures_are_of_different_speakers_of_one_part():
    made = spoken_syllables(4, n_speakers=3, n_syllables=3)
    made.labels["part"] = np.where(np.arange(len(made.waves)) % 3, "train", "test").astype(object)
    found = mixed(made, 40, within="part", seed=1)
    np.testing.assert_array_equal(found.waves, mixed(made, 40, within="part", seed=1).waves)
    speaker, part = made.labels["speaker"][found.rows], made.labels["part"][found.rows]
    assert (speaker[:, 0] != speaker[:, 1]).all()
    assert (part[:, 0] == part[:, 1]).all()
    assert np.abs(found.waves).max() == pytest.approx(0.9, abs=1e-5)
    ratio = 10 * np.log10(np.square(found.parts).sum(2)[:, 0] / np.square(found.parts).sum(2)[:, 1])
    assert np.abs(ratio).max() <= 6.01
    with pytest.raises(DataError, match="fewer than 4 values of 'speaker'"):
        mixed(made, 2, n_parts=4)
    with pytest.raises(DataError, match="no label 'accent'"):
        mixed(made, 2, by="accent")


def test_voices_are_separated_beside_who_speaks():
    made = spoken_syllables(8, n_speakers=2, n_syllables=3, noise=0.003)
    found = mixed(made, 120)
    first = made.labels["syllable"][found.rows[:, 0]] == made.labels["syllable"][found.rows[:, 1]]
    recipe = Recipe(
        tasks={"voices": "separation", "same": "binary"},
        encoder={"name": "speech_frames", "n_mels": 32, "channels": [6], "halvings": 0, "hop": 0.016, "width": 48},
        split={"method": "random", "validation": 0.0, "test": 0.25},
        training={"epochs": 10, "batch_size": 8, "learning_rate": 1e-2, "patience": None},
    )
    recipe.tasks["voices"]["hop"] = 128
    run = recipe.run(ArrayData("mixtures", found.waves, {"voices": found.parts, "same": first}))
    metrics = run.record.tasks["voices"].metrics
    assert metrics["relative_error"] < 0.8
    assert metrics["si_sdr_gain"] > 1.0
    answers = run.predict(found.waves[:3])["voices"].values
    assert separated(found.waves[:3], answers, hop=128).shape == (3, 2, 4000)
