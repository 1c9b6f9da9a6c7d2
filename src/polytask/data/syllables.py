"""Syllables made of formants, spoken by made-up speakers: what recordings are like, without a recording."""

from __future__ import annotations

import itertools

import numpy as np

from polytask.data.audio import Recordings
from polytask.errors import RecipeError

__all__ = ["spoken_strings", "spoken_syllables"]

_VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
"""Mean frequencies in Hz of the first three formants of men's vowels."""
_ONSETS = ("", "s", "b")
_WIDTHS = (60, 90, 150)


def spoken_syllables(
    per_syllable: int = 20,
    *,
    n_speakers: int = 6,
    n_syllables: int = 10,
    noise: float = 0.02,
    rate: int = 8000,
    seconds: float = 0.5,
    seed: int = 0,
) -> Recordings:
    """Make recordings in which what is said and who says it are two questions to the same sound.

    A syllable is a vowel, whose formants resonate over a buzz of the speaker's pitch, after nothing, a hiss or a pop. A
    speaker has a pitch, a length of the vocal tract that moves all formants, and a tilt of the spectrum; length,
    loudness and pitch vary from one recording to the next.

    Args:
        per_syllable: Recordings of each syllable by each speaker.
        n_speakers: Number of speakers.
        n_syllables: Number of syllables, at most 15.
        noise: Standard deviation of white noise; the loudest sample is 0.5 before it.
        rate: Samples a second.
        seconds: Length of the array; recordings fill 40 to 90 % of it.
        seed: Of everything drawn.

    Returns:
        Labels ``syllable`` and ``speaker``, in random order.

    Raises:
        RecipeError: If there are to be more syllables than there are.

    Example:
        >>> made = spoken_syllables(2, n_speakers=3, n_syllables=4)
        >>> made.waves.shape, sorted(set(made.labels["speaker"]))
        ((24, 4000), ['speaker 1', 'speaker 2', 'speaker 3'])

    References:
        Peterson and Barney, Control Methods Used in a Study of the Vowels, JASA 1952: the frequencies.
    """
    known = _known(n_syllables)
    generator = np.random.default_rng(seed)
    speakers = _speakers(n_speakers, generator)
    order = generator.permutation(n_speakers * n_syllables * per_syllable)
    waves = np.zeros((len(order), round(seconds * rate)), dtype=np.float32)
    lengths = np.zeros(len(order))
    said, by = np.empty(len(order), dtype=object), np.empty(len(order), dtype=object)
    for row, code in enumerate(order):
        speaker, syllable = code % n_speakers, code // n_speakers % n_syllables
        samples = _spoken(known[syllable], speakers[speaker], generator, rate, seconds * generator.uniform(0.4, 0.9))
        samples += noise * generator.normal(size=len(samples))
        waves[row, : len(samples)] = np.clip(samples * generator.uniform(0.5, 1.0), -1, 1)
        lengths[row] = len(samples) / rate
        said[row], by[row] = known[syllable], f"speaker {speaker + 1}"
    files = tuple(f"{text}_{who}_{row}.wav" for row, (text, who) in enumerate(zip(said, by, strict=True)))
    return Recordings(waves, lengths, rate, {"syllable": said, "speaker": by}, files)


def spoken_strings(
    n: int = 600,
    *,
    n_speakers: int = 4,
    n_syllables: int = 10,
    length: tuple[int, int] = (2, 4),
    noise: float = 0.02,
    rate: int = 8000,
    seconds: float = 0.25,
    seed: int = 0,
) -> Recordings:
    """Make recordings of several syllables one after another, as long as they happen to be.

    Args:
        n: Recordings.
        n_speakers: Number of speakers, see :func:`spoken_syllables`.
        n_syllables: Number of syllables that are drawn from, at most 15.
        length: Fewest and most syllables of a recording.
        noise: Standard deviation of white noise.
        rate: Samples a second.
        seconds: Longest syllable; one takes 60 to 100 % of it.
        seed: Of everything drawn.

    Returns:
        Labels ``text``, the syllables without spaces, and ``speaker``.

    Raises:
        RecipeError: If there are to be more syllables than there are, or strings of no syllable.

    Example:
        >>> made = spoken_strings(3, n_syllables=5)
        >>> made.labels["text"].tolist(), made.seconds.round(2).tolist()
        (['iue', 'oee', 'eaa'], [0.49, 0.59, 0.61])
    """
    known = _known(n_syllables)
    if not 1 <= length[0] <= length[1]:
        raise RecipeError(f"A string has at least one syllable, the fewest first; got length={tuple(length)}.")
    generator = np.random.default_rng(seed)
    speakers = _speakers(n_speakers, generator)
    said, by, found = np.empty(n, dtype=object), np.empty(n, dtype=object), []
    for row in range(n):
        speaker = int(generator.integers(n_speakers))
        drawn = generator.integers(0, n_syllables, generator.integers(length[0], length[1] + 1))
        spoken = [
            _spoken(known[k], speakers[speaker], generator, rate, seconds * generator.uniform(0.6, 1.0)) for k in drawn
        ]
        samples = np.concatenate(spoken)
        samples = (samples + noise * generator.normal(size=len(samples))) * generator.uniform(0.5, 1.0)
        found.append(np.clip(samples, -1, 1).astype(np.float32))
        said[row], by[row] = "".join(known[k] for k in drawn), f"speaker {speaker + 1}"
    waves = np.zeros((n, max(map(len, found), default=0)), dtype=np.float32)
    for line, samples in zip(waves, found, strict=True):
        line[: len(samples)] = samples
    files = tuple(f"{text}_{who}_{row}.wav" for row, (text, who) in enumerate(zip(said, by, strict=True)))
    return Recordings(waves, np.array([len(s) / rate for s in found]), rate, {"text": said, "speaker": by}, files)


def _known(n_syllables: int) -> list[str]:
    known = [onset + vowel for onset, vowel in itertools.product(_ONSETS, _VOWELS)]
    if not 1 <= n_syllables <= len(known):
        raise RecipeError(f"There are 1 to {len(known)} syllables, got n_syllables={n_syllables}.")
    return known


def _speakers(n_speakers: int, generator: np.random.Generator) -> list[dict[str, float]]:
    """A pitch, a length of the vocal tract and a tilt of each."""
    return [
        {
            "pitch": 90 * 2 ** (1.2 * k / max(n_speakers - 1, 1)),
            "tract": generator.uniform(0.88, 1.18),
            "tilt": generator.uniform(0.6, 1.6),
        }
        for k in range(n_speakers)
    ]


def _spoken(
    syllable: str, speaker: dict[str, float], generator: np.random.Generator, rate: int, seconds: float
) -> np.ndarray:
    """One recording, its loudest sample 0.5."""
    from scipy.signal import lfilter

    n = round(seconds * rate)
    time = np.arange(n) / rate
    pitch = speaker["pitch"] * generator.uniform(0.93, 1.07) * (1 - 0.15 * time / seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    harmonics = np.arange(1, int(rate / 2 / pitch.max()))
    buzz = sum(np.sin(k * phase) / k ** speaker["tilt"] for k in harmonics) + 0.02 * generator.normal(size=n)
    voice = buzz
    for formant, width in zip(_VOWELS[syllable[-1]], _WIDTHS, strict=True):
        centre = min(formant * speaker["tract"] * generator.uniform(0.97, 1.03), 0.47 * rate)
        radius = np.exp(-np.pi * width / rate)
        poles = [1, -2 * radius * np.cos(2 * np.pi * centre / rate), radius**2]
        voice = lfilter([sum(poles)], poles, voice)
    voice = voice * np.minimum(1, np.minimum(time / 0.03, (time[-1] - time) / 0.05 + 1e-3))
    voice /= max(np.abs(voice).max(), 1e-9)
    start = rate // 10
    if syllable[0] == "s":  # a hiss before the voice sets in
        voice[:start] = 0.35 * np.diff(generator.normal(size=start + 1)) * np.hanning(start)
    elif syllable[0] == "b":  # a closed mouth, then a pop
        pop = rate // 100
        voice[: start // 2] *= 0.02
        voice[start // 2 : start // 2 + pop] += 0.5 * generator.normal(size=pop) * np.hanning(pop)
    out: np.ndarray = 0.5 * voice / max(np.abs(voice).max(), 1e-9)
    return out
