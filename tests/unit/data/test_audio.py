"""WAV files from folders and archives: every width against the standard library, and whatever may be wrong with one."""

import io
import wave
import zipfile

import numpy as np
import pytest

from polytask.data import read_recordings, spoken_digits, spoken_strings, spoken_syllables, write_wav
from polytask.errors import DataError, InputError, RecipeError

RATE = 8000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(800) / RATE)


def raw(samples=TONE, width=2, channels=1, rate=RATE):
    whole = np.rint(samples * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    if width == 1:
        data = (whole + 128).astype(np.uint8).tobytes()
    else:
        data = b"".join(int(value).to_bytes(width, "little", signed=True) for value in whole)
    out = io.BytesIO()
    with wave.open(out, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(data)
    return out.getvalue()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_gives_the_same_wave(tmp_path, width):
    (tmp_path / "a.wav").write_bytes(raw(width=width))
    read = read_recordings(tmp_path)
    assert read.rate == RATE
    assert read.waves.dtype == np.float32
    np.testing.assert_allclose(read.waves[0], TONE, atol=1.5 / 2 ** (8 * width - 1) + 1e-6)


def test_channels_are_averaged(tmp_path):
    both = np.stack([TONE, np.zeros_like(TONE)], 1).ravel()
    (tmp_path / "a.wav").write_bytes(raw(both, channels=2))
    np.testing.assert_allclose(read_recordings(tmp_path).waves[0], TONE / 2, atol=1e-4)


def test_a_written_file_is_read_as_it_was_and_loud_samples_are_clipped(tmp_path):
    write_wav(tmp_path / "a.wav", np.array([0.25, -0.5, 3.0]), RATE)
    np.testing.assert_allclose(read_recordings(tmp_path).waves[0], [0.25, -0.5, 1.0], atol=1e-4)
    with pytest.raises(InputError, match="NaN"):
        write_wav(tmp_path / "b.wav", np.array([np.nan]), RATE)


def test_names_become_labels_and_lengths_are_kept(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "7_ann_0.wav").write_bytes(raw())
    (tmp_path / "3_bob_1.wav").write_bytes(raw(TONE[:200]))
    (tmp_path / ".hidden.wav").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no recording")
    read = read_recordings(tmp_path, pattern="(?P<digit>[0-9])_(?P<speaker>[a-z]+)_[0-9]")
    assert read.files == ("3_bob_1.wav", "deep/7_ann_0.wav")
    assert read.labels["digit"].tolist() == ["3", "7"]
    assert read.labels["speaker"].tolist() == ["bob", "ann"]
    assert read.seconds.tolist() == [200 / RATE, 800 / RATE]
    assert not read.waves[0, 200:].any()
    assert read_recordings(tmp_path).labels["folder"].tolist() == ["", "deep"]
    assert read_recordings(tmp_path, seconds=0.05).waves.shape == (2, 400)


def test_an_archive_is_read_as_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/a.wav", raw())
        archive.writestr("x/readme.md", "words")
    read = read_recordings(tmp_path / "all.zip")
    assert read.files == ("x/a.wav",)
    np.testing.assert_allclose(read.waves[0], TONE, atol=1e-4)


def test_another_rate_is_brought_to_the_first_one_or_the_one_asked_for(tmp_path):
    fast = 0.5 * np.sin(2 * np.pi * 440 * np.arange(1600) / 16000)
    (tmp_path / "a.wav").write_bytes(raw())
    (tmp_path / "b.wav").write_bytes(raw(fast, rate=16000))
    read = read_recordings(tmp_path)
    assert read.waves.shape == (2, 800)
    np.testing.assert_allclose(read.waves[1, 100:700], TONE[100:700], atol=0.01)
    assert read_recordings(tmp_path, rate=4000).waves.shape == (2, 400)
    with pytest.raises(InputError, match="cannot bring"):
        read_recordings(tmp_path, rate=-1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no WAV file that can be read .*: it ends too early"),
        (raw()[:24] + bytes(4) + raw()[28:], "0 samples a second"),
        (b"RIFF....WAVEjunk", "no WAV file that can be read"),
        (raw()[:-100], "cut short"),
        (raw(np.zeros(0)), "no sample"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, says):
    (tmp_path / "good.wav").write_bytes(raw())
    (tmp_path / "wrong.wav").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_recordings(tmp_path)
    assert "wrong.wav" in str(caught.value)


def test_a_damaged_archive_and_one_that_unpacks_to_too_much_are_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.wav", raw())
    content = bytearray((tmp_path / "all.zip").read_bytes())
    content[200] ^= 255
    (tmp_path / "damaged.zip").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"a\.wav cannot be unpacked"):
        read_recordings(tmp_path / "damaged.zip")
    monkeypatch.setattr("polytask.data.files._MOST_BYTES", 100)
    with pytest.raises(InputError, match="split it first"):
        read_recordings(tmp_path / "all.zip")


def test_what_is_asked_for_wrongly_is_said(tmp_path):
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        read_recordings(tmp_path / "none")
    with pytest.raises(DataError, match="no WAV file"):
        read_recordings(tmp_path)
    (tmp_path / "a.wav").write_bytes(raw())
    with pytest.raises(RecipeError, match="no regular expression"):
        read_recordings(tmp_path, pattern="(")
    with pytest.raises(RecipeError, match="names no group"):
        read_recordings(tmp_path, pattern="a")
    with pytest.raises(RecipeError, match=r"'a\.wav' does not match"):
        read_recordings(tmp_path, pattern="(?P<digit>[0-9])")


def test_syllables_differ_by_seed_only_and_every_pair_is_there():
    made = spoken_syllables(2, n_speakers=3, n_syllables=15)
    again = spoken_syllables(2, n_speakers=3, n_syllables=15)
    np.testing.assert_array_equal(made.waves, again.waves)
    assert not np.array_equal(made.waves, spoken_syllables(2, n_speakers=3, n_syllables=15, seed=1).waves)
    assert len(set(zip(made.labels["syllable"], made.labels["speaker"], strict=True))) == 45
    assert np.abs(made.waves).max() <= 1
    with pytest.raises(RecipeError, match="1 to 15 syllables"):
        spoken_syllables(1, n_syllables=16)


def test_the_names_of_spoken_digits_say_everything(tmp_path):
    for take in range(15):
        write_wav(tmp_path / f"3_theo_{take}.wav", TONE, RATE)
    write_wav(tmp_path / "0_george_1.wav", np.tile(TONE, 20), RATE)
    read = spoken_digits(tmp_path)
    assert read.waves.shape == (16, 6400)
    assert {key: values[0] for key, values in read.labels.items()} == {
        "digit": "0", "speaker": "george", "accent": "Greek", "text": "zero", "part": "test",
    }  # fmt: skip
    parts = dict(zip(read.files, read.labels["part"], strict=True))
    wanted = ["test"] * 5 + ["train"] * 8 + ["validation"] * 2
    assert [parts[f"3_theo_{take}.wav"] for take in range(15)] == wanted
    write_wav(tmp_path / "0_ann_1.wav", TONE, RATE)
    with pytest.raises(DataError, match="recordings of ann; the speakers known"):
        spoken_digits(tmp_path)


def test_strings_are_as_long_as_their_syllables_and_silent_after():
    made = spoken_strings(20, n_syllables=5, length=(1, 4), noise=0.01)
    again = spoken_strings(20, n_syllables=5, length=(1, 4), noise=0.01)
    np.testing.assert_array_equal(made.waves, again.waves)
    count = np.array([len(text) for text in made.labels["text"]])
    assert set(count) == {1, 2, 3, 4}
    assert (made.seconds >= 0.149 * count).all()
    assert (made.seconds <= 0.251 * count).all()
    for wave_, seconds in zip(made.waves, made.seconds, strict=True):
        assert not wave_[round(seconds * RATE) :].any()
    with pytest.raises(RecipeError, match="at least one syllable"):
        spoken_strings(2, length=(0, 2))
