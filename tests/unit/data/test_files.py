"""Files of folders and archives that others made: what is found in them, what is refused, and what it may cost."""

import struct
import tracemalloc
import wave
import zipfile

import numpy as np
import pytest

from polytask.data.audio import decoded_wav, resampled
from polytask.data.decoding import WaveTransform
from polytask.data.files import Files
from polytask.errors import DataError, InputError


def read(files, name):
    with files.opened(name) as file:
        return file.read()


def archive(path, content, **options):
    with zipfile.ZipFile(path, "w", **options) as made:
        for name, data in content.items():
            made.writestr(name, data)
    return path


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "deep" / "b.png").write_bytes(b"b")
    root = tmp_path / "photos"
    for name in ("own", ".thumbnails", "own/.cache"):
        (root / name).mkdir(parents=True)
        (root / name / "a.png").write_bytes(b"a")
    (root / "linked").symlink_to(tmp_path / "far")
    (root / "own" / "circle").symlink_to(root)
    (tmp_path / "far" / "back").symlink_to(root)
    (root / "own" / "lost.png").symlink_to(root / "nowhere.png")
    files = Files(root)
    assert files.names([".png"]) == ["linked/deep/b.png", "own/a.png", "own/lost.png"]
    assert read(files, "linked/deep/b.png") == b"b"
    with pytest.raises(InputError, match=r"lost\.png is not there"):
        read(files, "own/lost.png")


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").write_bytes(b"a")
    import os

    scandir = os.scandir

    def refusing(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"closed cannot be read: .*Permission denied"):
        Files(tmp_path).names([".png"])


def test_names_of_an_archive_are_names_in_it_and_open_nothing_else(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    names = ["../secret.png", "/etc/x.png", "a.png", "__MACOSX/._a.png"]
    archive(tmp_path / "in.zip", dict(zip(names, names, strict=True)))
    with zipfile.ZipFile(tmp_path / "in.zip", "a") as made, pytest.warns(UserWarning, match="Duplicate name"):
        made.writestr("a.png", "a second one")
    files = Files(tmp_path / "in.zip")
    assert files.names([".png"]) == ["../secret.png", "/etc/x.png", "a.png"]
    assert read(files, "../secret.png") == b"../secret.png"
    with pytest.raises(InputError, match="is not there"):
        read(files, "../in.zip")


@pytest.mark.parametrize("said", [10, 1 << 31])
def test_an_archive_that_lies_of_sizes_costs_no_memory(tmp_path, said):
    path = archive(tmp_path / "in.zip", {"a.png": bytes(64 << 20)}, compression=zipfile.ZIP_DEFLATED)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(struct.pack("<L", 64 << 20), struct.pack("<L", said)))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.png (cannot be unpacked|would unpack to 2048 MiB)"):
        read(Files(path), "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_archives_that_are_damaged_or_packed_in_other_ways_are_refused_by_name(tmp_path):
    noise = np.random.default_rng(0).integers(0, 16, 5000, dtype=np.uint8).tobytes()
    path = archive(tmp_path / "in.zip", {"a.png": noise}, compression=zipfile.ZIP_DEFLATED)
    assert read(Files(path), "a.png") == noise
    raw = bytearray(path.read_bytes())
    raw[60:90] = b"\xff" * 30
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"a\.png cannot be unpacked"):
        read(Files(path), "a.png")
    start = raw.rfind(b"PK\x01\x02")
    raw[start : start + 4] = b"none"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"in\.zip is no zip archive that can be read"):
        Files(path).names([".png"])
    packed = archive(tmp_path / "other.zip", {"a.png": noise}, compression=zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match=r"a\.png is packed by method 12; only 8"):
        read(Files(packed), "a.png")


def wav(path, n_samples, rate):
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(rate)
        out.writeframes(bytes(n_samples))


def test_a_rate_in_a_header_decides_no_size_in_memory(tmp_path):
    transform = WaveTransform("file", rate=8000)
    transform.n_samples = 4000
    wav(tmp_path / "slow.wav", 200_000, 1)  # two days, by its header: 1.6 thousand million samples at 8000 a second
    resampled(np.zeros(9, np.float32), 3, 2, "")  # what is imported for it is not counted below
    tracemalloc.start()
    assert transform.decode(Files(tmp_path), ["slow.wav"]).shape == (1, 4000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20
    wav(tmp_path / "fast.wav", 100, 2**31 - 1)
    with pytest.raises(InputError, match=r"fast\.wav says that it has 2,147,483,647 samples a second"):
        transform.decode(Files(tmp_path), ["fast.wav"])


@pytest.mark.parametrize(("own", "rate"), [(44100, 8000), (4000, 8000), (7999, 8000), (8000, 8000)])
@pytest.mark.parametrize("most", [1, 700, 10**6])
def test_the_first_samples_of_another_rate_are_those_of_the_whole(own, rate, most):
    samples = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    whole = resampled(samples, own, rate, "it")
    assert np.array_equal(resampled(samples, own, rate, "it", most), whole[:most])


def test_waves_of_8_bits_are_around_zero(tmp_path):
    wav(tmp_path / "a.wav", 3, 8000)
    with (tmp_path / "a.wav").open("rb") as file:
        assert decoded_wav("a.wav", file)[0].tolist() == [-1.0, -1.0, -1.0]
