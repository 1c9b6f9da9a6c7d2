"""Spectrograms that are made: held against torch.stft, NumPy, and what Griffin and Lim promise."""

import itertools

import numpy as np
import pytest
import torch

from polytask import Recipe, load
from polytask.data import heard, spectrograms, spoken_syllables
from polytask.errors import InputError, TargetError
from polytask.tasks import Synthesis
from polytask.tasks._spectra import spectra, waves_of
from polytask.testing import check_task
from polytask.training.data_sets import ArrayData

RNG = np.random.default_rng(0)


def codes(made):
    names = ("syllable", "speaker")
    return {name: np.unique(made.labels[name].astype(str), return_inverse=True)[1] for name in names}


def spoken(n_moments=8):
    """Inputs that say syllable and speaker, the spectrograms, and the recordings."""
    made = spoken_syllables(4, n_speakers=4, n_syllables=6, noise=0.003)
    sound = spectrograms(made.waves, made.seconds, made.rate, n_moments=n_moments)
    code = codes(made)
    inputs = np.concatenate([np.eye(6)[code["syllable"]], np.eye(4)[code["speaker"]]], 1).astype(np.float32)
    return inputs, sound, made


@pytest.mark.parametrize("shape", [(9, 3, 4), (9, 5), (9, 2, 3, 2)])
def test_rows_of_any_shape_keep_the_contract(shape):
    check_task(lambda: Synthesis(name="sound"), RNG.normal(size=shape))


def test_metrics_are_those_of_the_numbers_in_the_users_units():
    labels = RNG.normal(size=(20, 3, 4)) * [1.0, 10.0, 0.0, 3.0] + 5
    labels[::6] = np.nan
    task = Synthesis(name="sound")
    task.fit(labels)
    targets, observed = (torch.from_numpy(array) for array in task.encode(labels))
    outputs = torch.from_numpy(RNG.normal(size=(20, 12)))
    there = ~np.isnan(labels[:, 0, 0])
    assert (observed.numpy() == there).all()
    wrong = task.decode(outputs).values[there] - labels[there]
    found = task.evaluate(outputs, targets, observed)
    assert found["mse"] == pytest.approx(np.square(wrong).mean(), rel=1e-5)
    assert found["distance"] == pytest.approx(np.sqrt(np.square(wrong).mean(2)).mean(), rel=1e-5)
    constant = labels[there] - labels[there].mean(0)
    assert found["relative_error"] == pytest.approx(np.square(wrong).sum() / np.square(constant).sum(), rel=1e-5)
    assert task.evaluate(task.constant_outputs(targets), targets, observed)["relative_error"] == pytest.approx(1.0)


def test_rows_may_be_missing_as_none_or_as_nan():
    labels = RNG.normal(size=(6, 2, 3))
    task = Synthesis(name="sound")
    task.fit(labels)
    holed = labels.copy()
    holed[[1, 4]] = np.nan
    listed = np.empty(6, dtype=object)
    listed[:] = [None if row in (1, 4) else labels[row] for row in range(6)]
    for given in (holed, listed):
        targets, observed = task.encode(given)
        assert observed.tolist() == [True, False, True, True, False, True]
        np.testing.assert_array_equal(targets[observed], task.encode(labels)[0][observed])
        assert not targets[~observed].any()
        again = Synthesis(name="sound")
        again.fit(given)
        kept = Synthesis(name="sound")
        kept.fit(labels[observed])
        assert again.state() == kept.state()


def test_arrays_that_cannot_be_learned_are_refused():
    task = Synthesis(name="sound")
    with pytest.raises(TargetError, match="no numbers of its 3"):
        task.fit(np.full((3, 2, 2), np.nan))
    with pytest.raises(TargetError, match="the same numbers in each row of its 3"):
        task.fit(np.ones((3, 2)))
    task.fit(RNG.normal(size=(5, 2, 3)))
    with pytest.raises(TargetError, match=r"rows of shape \(2, 3\), got \(4, 3\)"):
        task.encode(np.zeros((1, 4, 3)))
    gaps = np.zeros((2, 2, 3))
    gaps[1, 0, 0] = np.nan
    with pytest.raises(TargetError, match="numbers and gaps, row 1"):
        task.encode(gaps)
    with pytest.raises(TargetError, match="finite"):
        task.encode(np.full((2, 2, 3), np.inf))
    rows = np.empty(3, dtype=object)
    rows[:] = [np.zeros((2, 3)), None, "loud"]
    with pytest.raises(TargetError, match="an array of numbers in row 2, got 'loud'"):
        task.encode(rows)
    rows[2] = np.zeros((2, 4))
    with pytest.raises(TargetError, match="arrays of one shape"):
        task.encode(rows)


def test_loudness_is_that_of_torchs_spectrogram_and_silence_after_the_end_changes_nothing():
    made = spoken_syllables(1, n_speakers=2, n_syllables=3)
    lengths = np.round(made.seconds * made.rate).astype(int)
    for wave, length in zip(made.waves, lengths, strict=True):
        sound = torch.from_numpy(wave[:length]).double()
        window = torch.hann_window(128, dtype=torch.float64)
        full = torch.stft(sound, 128, 32, window=window, center=True, pad_mode="constant", return_complex=True)
        power = full.abs().square()
        wanted = (10 * (power / power.max()).log10()).clamp_min(-60).T
        n_moments = length // 32 + 1  # its own moments, so that nothing lies between them
        found = spectrograms(wave[None], [length / made.rate], made.rate, n_moments=n_moments)
        np.testing.assert_allclose(found[0], wanted.numpy(), atol=1e-6)
        padded = np.concatenate([wave[:length], np.zeros(999, np.float32)])
        np.testing.assert_array_equal(
            found, spectrograms(padded[None], [length / made.rate], made.rate, n_moments=n_moments)
        )
    with pytest.raises(InputError, match="Recording 0 is silent"):
        spectrograms(np.zeros((1, 500)), [0.05], 8000)


def test_the_wave_of_consistent_spectra_is_the_wave_and_each_round_comes_nearer():
    wave = torch.from_numpy(RNG.normal(size=(1, 1600)))
    full = spectra(wave, 128, 32)
    torch.testing.assert_close(waves_of(full, 128, 32, 1600), wave)
    # Griffin and Lim, section III: the squared distance of magnitudes never grows from one round to the next.
    wanted = full.abs()
    guess = torch.polar(
        wanted, 2 * torch.pi * torch.rand(wanted.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    gaps = []
    for _ in range(30):
        found = spectra(waves_of(guess, 128, 32, 1600), 128, 32)
        gaps.append((found.abs() - wanted).square().sum().item())
        guess = torch.polar(wanted, found.angle())
    assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(gaps))
    assert gaps[-1] < 0.5 * gaps[0]


def test_what_is_heard_has_the_spectrogram_that_was_asked_for():
    made = spoken_syllables(1, n_speakers=2, n_syllables=3, noise=0.001)
    wanted = spectrograms(made.waves, made.seconds, made.rate, n_moments=60)

    def distance(iterations):
        waves = heard(wanted, made.seconds, made.rate, iterations=iterations)
        assert [len(wave) for wave in waves] == [round(s * made.rate) for s in made.seconds]
        again = [spectrograms(w[None], [len(w) / made.rate], made.rate, n_moments=60)[0] for w in waves]
        return np.abs(np.stack(again) - wanted).mean()

    rough, fine = distance(1), distance(40)
    assert fine < 0.7 * rough
    once, twice = (heard(wanted[:1], made.seconds[:1], made.rate, iterations=2, seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(once, twice)


def test_a_syllable_is_spoken_by_a_speaker_who_never_said_it(tmp_path):
    inputs, sound, made = spoken()
    code = codes(made)
    # What is never heard together in training: some syllables of each speaker.
    part = np.where((code["syllable"] + code["speaker"]) % 5 == 4, "test", "train").astype(object)
    recipe = Recipe(
        tasks={"sound": "synthesis", "seconds": "regression"},
        encoder={"name": "mlp", "widths": [32]},
        split={"method": "given", "column": "part"},
        training={"epochs": 25, "batch_size": 8, "learning_rate": 5e-3, "patience": None},
    )
    data = ArrayData("recordings", inputs, {"sound": sound, "seconds": made.seconds}, {"part": part})
    run = recipe.run(data, out=tmp_path / "run")
    test, train = part == "test", part == "train"
    made_up = load(tmp_path / "run").predict(inputs[test])["sound"].values

    def error(answer):
        return np.square(answer - sound[test]).mean()

    of_syllable = np.stack([sound[train & (code["syllable"] == k)].mean(0) for k in code["syllable"][test]])
    of_speaker = np.stack([sound[train & (code["speaker"] == k)].mean(0) for k in code["speaker"][test]])
    assert error(made_up) == pytest.approx(run.record.tasks["sound"].metrics["mse"], rel=1e-4)
    # It knows of a pair that it never heard more than what its syllable or its speaker alone would tell.
    assert error(made_up) < min(error(of_syllable), error(of_speaker), error(sound[train].mean(0)))
    answer = run.predict(inputs[:2])
    assert answer["sound"].values.shape == (2, 8, 65)
    assert len(heard(answer["sound"].values, answer["seconds"].values, made.rate, iterations=2)) == 2


def test_one_task_missing_rows_and_a_task_that_batches_lack():
    inputs, sound, made = spoken(n_moments=4)
    sound, seconds = sound.copy(), made.seconds.copy()
    sound[1::2] = np.nan
    seconds[4:] = np.nan  # most batches have none of them
    settings = {
        "encoder": {"name": "mlp", "widths": [16]},
        "split": {"method": "random", "validation": 0.0, "test": 0.3},
        "training": {"epochs": 3, "batch_size": 4, "patience": None},
    }
    alone = Recipe(tasks={"sound": "synthesis"}, **settings).run(ArrayData("recordings", inputs, {"sound": sound}))
    assert alone.record.tasks["sound"].metrics["relative_error"] < 1.5
    both = Recipe(tasks={"sound": "synthesis", "seconds": "regression"}, **settings)
    run = both.run(ArrayData("recordings", inputs, {"sound": sound, "seconds": seconds}))
    assert np.isfinite(run.record.tasks["sound"].metrics["distance"])


@pytest.mark.parametrize("split", [{"method": "stratified"}, {"method": "grouped", "column": "speaker"}])
def test_rows_are_divided_by_whether_they_have_a_sound(split):
    inputs, sound, made = spoken()
    sound = sound.copy()
    sound[::4] = np.nan
    speaker = np.asarray(made.labels["speaker"]).astype(str)
    data = ArrayData("said", inputs, {"sound": sound}, columns={"speaker": speaker})
    run = Recipe(
        tasks={"sound": "synthesis"}, encoder={"name": "mlp", "widths": [8]}, split=split, training={"epochs": 1}
    ).run([data])
    result = run.record.tasks["sound"]
    assert 0 < result.n_test < result.n_train < int((~np.isnan(sound).all((1, 2))).sum())


def test_a_recording_with_samples_that_are_no_numbers_is_not_called_silent():
    with pytest.raises(InputError, match="Recording 1 has samples that are NaN or infinite"):
        spectrograms([np.ones(400), np.full(400, np.nan)], np.array([0.1, 0.1]), 4000)
