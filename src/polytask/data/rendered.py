"""Images of letters, drawn from the fonts that come with matplotlib."""

from __future__ import annotations

import importlib.util
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from polytask.errors import DataError, MissingExtraError

__all__ = ["RenderedLetters", "rendered_letters"]

_FONTS = (
    *(f"DejaVu{family}.ttf" for family in ("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique")),
    *(f"DejaVu{family}.ttf" for family in ("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique")),
    *(f"DejaVu{family}.ttf" for family in ("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic")),
    *(f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")),
    *(f"cm{family}10.ttf" for family in ("b", "r", "ss", "tt")),
)
_OVERSAMPLING = 3
_GLYPH_SHARE = 0.72
_CHUNK = 4096


@dataclass(frozen=True)
class RenderedLetters:
    """Rendered letters.

    Args:
        images: uint8 ``[N, 1, size, size]``, bright on dark.
        labels: ``[N]``, ``A`` to ``Z``.
        fonts: ``[N]``, the font that each was drawn with; a group for splits that keep fonts apart.
    """

    images: np.ndarray
    labels: np.ndarray
    fonts: np.ndarray


def rendered_letters(
    n_images: int = 5200,
    *,
    size: int = 28,
    shift: float = 0.08,
    rotation: float = 15.0,
    scale: float = 0.2,
    noise: float = 0.1,
    seed: int = 0,
) -> RenderedLetters:
    """Draw capital letters in 20 fonts, each moved, turned, stretched and disturbed at random.

    All letters are equally frequent, but for a rest. These are not handwritten: call them rendered where they stand in
    for handwriting.

    Args:
        n_images: Number of images.
        size: Width and height in pixels.
        shift: Largest shift, as a share of the size.
        rotation: Largest turn in degrees.
        scale: Largest change of width and of height: each is multiplied by a factor in 1 - scale to 1 + scale.
        noise: Standard deviation of the noise on each pixel, where 1 is the brightest.
        seed: Of everything random; the same seed gives the same pixels.

    Raises:
        DataError: If there is no image to draw, or an image of no pixels.
        MissingExtraError: If Pillow or matplotlib, whose fonts are used, is not installed.

    Example:
        >>> letters = rendered_letters(52, seed=1)
        >>> letters.images.shape, sorted(set(letters.labels))[:3]
        ((52, 1, 28, 28), ['A', 'B', 'C'])
    """
    if n_images < 1 or size < 4:
        raise DataError(f"At least 1 image of 4 pixels is needed, got {n_images} of {size}.")
    rng = np.random.default_rng(seed)
    glyphs = _glyphs(size * _OVERSAMPLING)
    letter = rng.permutation(np.arange(n_images) % 26)
    font = rng.integers(len(_FONTS), size=n_images)
    angle = np.deg2rad(rng.uniform(-rotation, rotation, n_images))
    factors = rng.uniform(1 - scale, 1 + scale, (n_images, 2))
    moves = 2 * rng.uniform(-shift, shift, (n_images, 2))
    images = np.empty((n_images, 1, size, size), dtype=np.uint8)
    for start in range(0, n_images, _CHUNK):
        part = slice(start, start + _CHUNK)
        sharp = torch.from_numpy(glyphs[font[part], letter[part]])[:, None]
        # A grid says for each pixel of the result where in the glyph it comes from, so it holds the inverse map.
        cosine, sine = np.cos(angle[part]), np.sin(angle[part])
        rows = np.stack([cosine, sine, moves[part, 0], -sine, cosine, moves[part, 1]], axis=1).reshape(-1, 2, 3)
        rows[:, 0] /= factors[part, :1]
        rows[:, 1] /= factors[part, 1:]
        wide = (len(rows), 1, size * _OVERSAMPLING, size * _OVERSAMPLING)
        grid = functional.affine_grid(torch.from_numpy(rows).float(), list(wide), align_corners=False)
        drawn = functional.grid_sample(sharp, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        pixels = functional.avg_pool2d(drawn, _OVERSAMPLING).numpy()
        pixels = pixels + noise * rng.standard_normal(pixels.shape, dtype=np.float32)
        images[part] = np.clip(pixels * 255, 0, 255).round().astype(np.uint8)
    names = np.array(list(string.ascii_uppercase), dtype=object)
    return RenderedLetters(images, names[letter], np.array(_FONTS, dtype=object)[font])


def _glyphs(size: int) -> np.ndarray:
    """Every letter in every font, centred, float32 ``[F, 26, size, size]`` in 0 to 1."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise MissingExtraError("rendering letters", "pillow", "demo") from error
    folder = _font_folder()
    glyphs = np.empty((len(_FONTS), 26, size, size), dtype=np.float32)
    for f, file in enumerate(_FONTS):
        font = ImageFont.truetype(str(folder / file), round(size * _GLYPH_SHARE))
        for k, letter in enumerate(string.ascii_uppercase):
            image = Image.new("L", (size, size), 0)
            left, top, right, bottom = font.getbbox(letter)
            place = ((size - left - right) / 2, (size - top - bottom) / 2)
            ImageDraw.Draw(image).text(place, letter, fill=255, font=font)
            glyphs[f, k] = np.asarray(image, dtype=np.float32) / 255
    return glyphs


def _font_folder() -> Path:
    """Matplotlib's fonts, found without importing it."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise MissingExtraError("rendering letters", "matplotlib", "demo")
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
