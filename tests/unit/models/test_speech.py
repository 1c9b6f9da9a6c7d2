"""The speech encoder's front end against PyTorch's Fourier transform, and silence, loudness, wrong shapes."""

import numpy as np
import pytest
import torch

from polytask.data import spoken_syllables
from polytask.errors import InputError, RecipeError
from polytask.models.building import build_model
from polytask.models.encoders import registry
from polytask.models.encoders.speech import LogMel, Speech, mel_bands
from polytask.models.encoders.speech_frames import SpeechFrames
from polytask.models.inputs import Field, InputShape
from polytask.models.spec import ModelSpec
from polytask.training.data_sets import ArrayData

SHAPE = InputShape({"x": Field((2000,))})


def waves(n=3, length=2000):
    return torch.randn(n, length, generator=torch.Generator().manual_seed(0))


def test_power_is_that_of_the_fourier_transform():
    front = LogMel(SHAPE, 8000, 20, 256, 80, length=2320)
    x = waves()
    padded = torch.nn.functional.pad(x, (0, 256 + 4 * 80))
    power = torch.stft(
        padded, 256, 80, window=torch.hann_window(256), center=False, return_complex=True
    ).abs().square()  # fmt: skip
    mel = mel_bands(20, 256, 8000) @ power
    expected = (1e5 * mel / mel.amax((1, 2), keepdim=True)).log1p() / np.log1p(1e5)
    torch.testing.assert_close(front(x).squeeze(1), expected, rtol=1e-3, atol=1e-4)


def test_bands_are_triangles_that_sum_to_one_between_the_outer_centres():
    bands = mel_bands(20, 512, 8000)
    covered = bands.sum(0)
    peaks = bands.argmax(1)
    torch.testing.assert_close(covered[peaks[0] + 1 : peaks[-1]], torch.ones(peaks[-1] - peaks[0] - 1))
    assert (peaks.diff() >= 1).all()
    assert (bands >= 0).all()


def test_silence_after_the_end_and_loudness_change_nothing():
    encoder = Speech({"a": SHAPE}).eval()
    x = waves()
    for more in (1, 77, 5000):
        longer = Speech({"a": InputShape({"x": Field((2000 + more,))})}).eval()
        longer.load_state_dict(encoder.state_dict())
        same = longer(torch.cat([x, torch.zeros(3, more)], 1))
        torch.testing.assert_close(same, encoder(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder(x * 0.01), encoder(x), rtol=1e-4, atol=1e-4)
    out = encoder(torch.zeros(1, 2000))
    assert out.isfinite().all()


def test_wrong_shapes_and_settings_are_said():
    with pytest.raises(InputError, match="one wave a row"):
        Speech({"a": InputShape({"x": Field((3, 8, 8))})})
    with pytest.raises(InputError, match="shorter than a window"):
        Speech({"a": InputShape({"x": Field((100,))})})
    with pytest.raises(RecipeError, match="too short for 200 bands"):
        Speech({"a": SHAPE}, n_mels=200)
    with pytest.raises(RecipeError, match="cannot be halved"):
        Speech({"a": SHAPE}, n_mels=4, channels=(4,) * 5)


def test_what_is_said_and_who_says_it_are_learned_together():
    from polytask import Recipe

    made = spoken_syllables(12, n_speakers=3, n_syllables=4)
    recipe = Recipe(
        tasks={"syllable": "multiclass", "speaker": "multiclass"},
        encoder={"name": "speech", "channels": [8, 16], "width": 32, "n_mels": 24},
        split={"method": "stratified"},
        training={"epochs": 25, "batch_size": 16, "learning_rate": 5e-3},
    )
    run = recipe.run({"recordings": ArrayData("recordings", made.waves, made.labels)})
    for task, chance in (("syllable", 1 / 4), ("speaker", 1 / 3)):
        assert run.record.tasks[task].metrics["accuracy"] > 2 * chance, task


def test_moments_reach_tasks_of_both_sorts():
    sources = {"short": InputShape.of(torch.zeros(1, 2000)), "long": InputShape.of(torch.zeros(1, 3000))}
    spec = ModelSpec(
        sources,
        {"said": 5, "who": 2},
        encoder="speech_frames",
        encoder_options={"width": 8, "channels": (3, 4), "n_mels": 12},
        element_tasks=("said",),
    )
    made = build_model(spec).eval()
    wave = 0.1 * torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    found = made(wave, source="short")
    assert found["said"].shape == (2, -(-3000 // 320), 5)
    assert found["who"].shape == (2, 2)
    # Silence at the end is what a shorter source is filled up with.
    padded = made(torch.nn.functional.pad(wave, (0, 1000)), source="long")
    torch.testing.assert_close(padded["said"], found["said"])
    alone = made(wave[1:], source="short")
    torch.testing.assert_close(alone["said"][0], found["said"][1])
    with pytest.raises(RecipeError, match="12 bands can be halved 3 times, and each of 5"):
        registry.create("speech_frames", sources, channels=(2, 2, 2, 2, 2), n_mels=12)
    with pytest.raises(InputError, match="one wave a row"):
        registry.create("speech_frames", {"a": InputShape.of(torch.zeros(1, 4, 300))})


@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_moments_do_not_depend_on_what_else_is_in_the_batch_nor_on_silence_after_the_end(halvings):
    options = {"channels": (3, 4), "width": 6, "n_mels": 12, "halvings": halvings, "dropout": 0.0}
    x = waves(4) * (torch.arange(2000) < torch.tensor([[2000], [900], [77], [0]]))
    torch.manual_seed(0)
    encoder = SpeechFrames({"a": SHAPE}, **options).eval()
    there = encoder.presence()(x)
    step = 80 << halvings
    assert there.sum(1).tolist() == [-(-n // step) for n in (2000, 900, 77, 0)]
    together = encoder(x).unflatten(0, (4, -1))
    longer = SpeechFrames({"a": InputShape({"x": Field((5000,))})}, **options).eval()
    longer.load_state_dict(encoder.state_dict())
    for row, n in enumerate(there.sum(1).tolist()):
        alone = encoder(x[row : row + 1])
        assert len(alone) == max(n, 1)
        torch.testing.assert_close(together[row, :n], alone[:n], rtol=1e-4, atol=1e-5)
        quiet = longer(torch.nn.functional.pad(x[row : row + 1], (0, 3000)))
        torch.testing.assert_close(quiet[:n], alone[:n], rtol=1e-4, atol=1e-5)


def test_moments_that_cannot_be_are_refused():
    with pytest.raises(RecipeError, match="no more halvings than channels"):
        SpeechFrames({"a": SHAPE}, halvings=3)
    with pytest.raises(RecipeError, match="can be halved 3 times"):
        SpeechFrames({"a": SHAPE}, n_mels=8, channels=(2, 2, 2, 2))
