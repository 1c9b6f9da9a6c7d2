import gzip
import io
import os
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from polytask.data import read_idx, read_idx_images, read_image_folder
from polytask.data.images import opened_image
from polytask.errors import DataError, InputError, MissingExtraError, RecipeError, TargetError


def write_idx(path, array, code=0x08):
    raw = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("name", ["a.idx", "a.gz"])
@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, "u1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8"), (0x09, "i1")]
)
def test_idx(tmp_path, name, code, dtype):
    read = read_idx(write_idx(tmp_path / name, PIXELS.astype(dtype), code))
    assert np.array_equal(read, PIXELS)
    assert read.dtype.isnative


def test_mnist_and_emnist_layouts(tmp_path):
    images = write_idx(tmp_path / "i", PIXELS)
    labels = write_idx(tmp_path / "l", np.array([1, 26], dtype=np.uint8))
    pixels, digits = read_idx_images(images, labels)
    assert pixels.shape == (2, 1, 3, 4)
    assert digits.tolist() == [1, 26]
    pixels, letters = read_idx_images(images, labels, "emnist_letters")
    assert np.array_equal(pixels[:, 0], PIXELS.transpose(0, 2, 1))
    assert letters.tolist() == ["A", "Z"]
    assert read_idx_images(images, labels, "emnist_digits")[1].tolist() == [1, 26]


def test_bad_idx(tmp_path):
    good = write_idx(tmp_path / "good", PIXELS)
    (tmp_path / "short").write_bytes(good.read_bytes()[:-1])
    (tmp_path / "long").write_bytes(good.read_bytes() + b"x")
    (tmp_path / "header").write_bytes(good.read_bytes()[:9])
    (tmp_path / "other").write_bytes(b"no idx at all")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(good.read_bytes())[:-9])
    for name, words in [
        ("short", "truncated: shape"),
        ("long", "longer than it says"),
        ("header", "truncated: its header"),
        ("other", "not an IDX file"),
        ("empty", "not an IDX file"),
        ("cut.gz", "truncated gzip"),
        ("nowhere", "No file named"),
    ]:
        with pytest.raises(DataError, match=words):
            read_idx(tmp_path / name)


def test_bad_idx_pairs(tmp_path):
    images = write_idx(tmp_path / "i", PIXELS)
    with pytest.raises(DataError, match="has 2 images, but"):
        read_idx_images(images, write_idx(tmp_path / "l", np.zeros(3, dtype=np.uint8)))
    with pytest.raises(TargetError, match="row 1 has 0"):
        read_idx_images(images, write_idx(tmp_path / "l", np.array([5, 0], dtype=np.uint8)), "emnist_letters")
    with pytest.raises(InputError, match="8-bit images"):
        read_idx_images(write_idx(tmp_path / "l", np.zeros(2, dtype=np.uint8)), images)
    with pytest.raises(RecipeError, match="No layout"):
        read_idx_images(images, images, "cifar")


def save(folder, name, size=(4, 3), mode="L", value=7):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)
    return path


def test_image_folder(tmp_path):
    save(tmp_path, "cat/1.png")
    save(tmp_path, "cat/deep/2.PNG", value=9)
    save(tmp_path, "ant/3.jpg")
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "ant" / "._3.png").write_text("no image either")
    read = read_image_folder(tmp_path)
    assert read.images.shape == (3, 1, 3, 4)
    assert read.images.dtype == np.uint8
    assert read.labels.tolist() == ["ant", "cat", "cat"]
    assert read.images[1].max() == 7
    assert [path.name for path in read.files] == ["3.jpg", "1.png", "2.PNG"]


def test_one_colour_image_makes_all_of_three_colours(tmp_path):
    save(tmp_path, "a/1.png")
    save(tmp_path, "b/2.png", mode="RGB")
    images = read_image_folder(tmp_path).images
    assert images.shape == (2, 3, 3, 4)
    assert images[:, :, 0, 0].tolist() == [[7, 7, 7], [7, 0, 255]]


def test_bad_image_folders(tmp_path):
    with pytest.raises(DataError, match="No folder"):
        read_image_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no PNG or JPEG"):
        read_image_folder(tmp_path)
    save(tmp_path, "a/1.png")
    other = save(tmp_path, "a/2.png", size=(5, 3))
    with pytest.raises(InputError, match=r"2\.png is 5 x 3 pixels, but 1\.png is 4 x 3"):
        read_image_folder(tmp_path)
    other.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2\.png is not an image"):
        read_image_folder(tmp_path)
    big = save(tmp_path, "b/1.png", size=(64, 64))
    other.write_bytes(big.read_bytes()[:60])
    save(tmp_path, "a/1.png", size=(64, 64))
    with pytest.raises(InputError, match=r"2\.png is not an image"):
        read_image_folder(tmp_path)


def test_without_pillow(tmp_path, monkeypatch):
    save(tmp_path, "a/1.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"polytask\[images\]"):
        read_image_folder(tmp_path)


PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"


def test_formats_that_run_programs_are_not_opened(tmp_path, monkeypatch):
    """A stand-in for Ghostscript first on the path would say that it ran."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(InputError, match="is not an image that can be read"), opened_image(io.BytesIO(PROGRAM), "it"):
        pass
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("error", [NotImplementedError("a flag"), struct.error("short"), IndexError("out")])
def test_however_a_decoder_fails_the_image_is_named(error):
    held = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(held, "png")
    with pytest.raises(InputError, match="photo 3 is not an image that can be read"), opened_image(held, "photo 3"):
        raise error


def test_an_image_of_too_many_pixels_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr("polytask.data.images._MOST_PIXELS", 11)
    held = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(held, "png")
    with pytest.raises(InputError, match="it has 4 x 3 pixels, more than 11"):
        opened_image(held, "it")
