"""Files and texts that stay where they are: what is read of them, what is refused and when, and going on."""

import os
import signal
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Recipe
from polytask.bundle import load
from polytask.data import made_up_sentences, spoken_syllables, write_wav
from polytask.data.reads import Reads
from polytask.data.text_rows import TextLines
from polytask.errors import DataError, InputError, RecipeError, TargetError
from polytask.serving.rows import CellError, RowReader
from polytask.serving.streaming import predict_file
from polytask.training.column_data import column_data
from polytask.training.interruption import Interrupted
from polytask.training.opening import open_data

CNN = {"name": "cnn", "channels": [4], "width": 4}
SMALL = {"epochs": 2, "batch_size": 8, "checkpoint_seconds": 0.0}


def photo(path, seed, size=(12, 12), colours=False):
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3) if colours else size[::-1], dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    for row in range(48):
        photo(tmp_path / "photos" / f"{row % 3}_{'ab'[row % 2]}_{row:02d}.png", row)
    return tmp_path / "photos"


PHOTOS = {"pattern": "(?P<kind>[0-9])_(?P<who>[ab])_[0-9]+"}


def of_photos(photos, **more):
    data = {"photos": {"path": str(photos), "reads": PHOTOS, "streamed": True, **more}}
    return {"tasks": {"kind": "multiclass", "who": "binary"}, "encoder": CNN, "data": data, "training": SMALL}


def weights(run):
    return run.bundle.models[0].model.state_dict()


def are_equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in other)


def test_a_few_images_with_colours_among_grey_ones_are_named(photos):
    rows, one, notes = np.arange(48), "1_b_07.png", []
    column_data("photos", photos, Reads()).fit([], rows, notes)
    assert notes == []
    photo(photos / one, 7, colours=True)
    data = column_data("photos", photos, Reads())
    data.fit([], rows, notes)
    assert data.file.shape == (3, 12, 12)
    assert notes[0].startswith(
        f"'photos': 1 image of 48 in training has colours ({photos / one}), so that all are read"
    )
    data.fit([], np.delete(rows, sorted(f.name for f in photos.iterdir()).index(one)), notes)
    assert data.file.shape == (1, 12, 12)
    assert len(notes) == 1


def test_labels_may_be_missing_anywhere_and_sources_may_be_mixed(photos, tmp_path):
    rows = sorted(photos.iterdir())
    table = pd.DataFrame({"photo": [f"photos/{file.name}" for file in rows]})
    table["age"] = np.where(np.arange(len(rows)) % 4 == 0, np.nan, np.arange(len(rows)))
    table["who"] = [file.name[2] if row % 3 else None for row, file in enumerate(rows)]
    table.to_csv(tmp_path / "labels.csv", index=False)
    recipe = {
        "tasks": {"age": "regression", "who": "binary", "kind": {"kind": "multiclass", "source": "others"}},
        "encoder": CNN,
        "training": SMALL,
        "balancer": "nash_mtl",
    }
    found = []
    for streamed in (False, True):
        data = {
            "labels": {"path": str(tmp_path / "labels.csv"), "reads": "photo", "streamed": streamed},
            "others": {"path": str(photos), "reads": {"pattern": "(?P<kind>[0-9])_.*"}},
        }
        found.append(Recipe(**recipe, data=data).run())
    assert are_equal(weights(found[0]), weights(found[1]))
    assert found[1].record.tasks["age"].n_train == found[0].record.tasks["age"].n_train < 30
    one = Recipe(tasks=["age"], data={"it": {**recipe_of(tmp_path), "streamed": True}}, encoder=CNN, training=SMALL)
    assert list(one.run(compare=True).record.tasks) == ["age"]


def recipe_of(tmp_path):
    return {"path": str(tmp_path / "labels.csv"), "reads": "photo"}


class StopsAt:
    """Asks the training to stop after some steps, as Ctrl-C does."""

    def __init__(self, steps):
        self.left = steps

    def start(self, title, n_steps, done): ...

    def stop(self, message): ...

    def step(self, losses, epoch):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_run_goes_on_in_mid_epoch_with_the_same_bits(photos, tmp_path):
    recipe = Recipe(**of_photos(photos, augment=["shift"]))
    whole = recipe.run(out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        recipe.run(out=tmp_path / "broken", progress=StopsAt(2))
    again = recipe.run(out=tmp_path / "broken", resume=True)
    assert are_equal(weights(again), weights(whole))
    assert again.record.tasks == whole.record.tasks


def test_a_damaged_image_ends_the_epoch_by_name_and_mended_the_run_goes_on(photos, tmp_path):
    recipe = Recipe(**{**of_photos(photos), "split": {"validation": 0.0, "test": 0.0}})
    whole = recipe.run(out=tmp_path / "whole")
    file = photos / "1_b_01.png"
    raw = file.read_bytes()
    file.write_bytes(raw[:-60])  # its header is whole
    with pytest.raises(InputError, match=r"1_b_01\.png is not an image that can be read"):
        recipe.run(out=tmp_path / "broken")
    file.write_bytes(raw)
    assert are_equal(weights(recipe.run(out=tmp_path / "broken", resume=True)), weights(whole))
    data = column_data("photos", photos, Reads(**PHOTOS), streamed=True)
    data.fit([], np.arange(len(data)), [])
    file.unlink()
    with pytest.raises(InputError, match=r"1_b_01\.png is not there \(any longer\)"):
        data.inputs_of(np.arange(len(data))).batch(torch.arange(len(data)))


def test_what_headers_tell_is_refused_before_anything_is_learned(photos, tmp_path):
    photo(photos / "2_a_99.png", 0, (13, 12))
    with pytest.raises(InputError, match=r"2_a_99\.png is 13 x 12 pixels.*reads\.side"):
        Recipe(**of_photos(photos)).run()
    scaled = Recipe(**of_photos(photos, reads={**PHOTOS, "side": 8})).run()
    assert scaled.bundle.files["photos"].shape == (1, 8, 8)
    (photos / "2_a_99.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2_a_99\.png is not an image"):
        Recipe(**of_photos(photos)).run()
    write_wav(photos / "0_a_1.wav", np.zeros(9), 8000)
    with pytest.raises(DataError, match=r"reads\.form=pixels or reads\.form=waves"):
        column_data("both", photos, Reads())
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"no file that can be read as pixels or waves"):
        column_data("none", tmp_path / "none", Reads())
    with pytest.raises(RecipeError, match="does not match the pattern"):
        column_data("it", photos, Reads(form="pixels", pattern="(?P<x>[0-9])"))
    with pytest.raises(RecipeError, match=r"reads one column \("):
        Recipe(**of_photos(photos, drop=["who"])).run()
    with pytest.raises(RecipeError, match=r"No setting named 'sied', for data\.photos\.reads\. Did you mean 'side'"):
        Recipe(**of_photos(photos, reads={"sied": 3}))
    with pytest.raises(InputError, match=r"No column of .* named 'phot'"):
        column_data("it", {"photo": ["a.png"], "y": [1]}, Reads("phot"))
    with pytest.raises(InputError, match="names no file in row 1"):
        column_data("it", {"photo": ["a.png", None], "y": [1, 2]}, Reads("photo"))


def test_recordings_of_an_archive_are_as_long_as_the_longest_of_training(tmp_path):
    made, lengths = spoken_syllables(4, n_speakers=2, n_syllables=3), {}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for row, wave in enumerate(made.waves):
            write_wav(tmp_path / "one.wav", wave[: 800 + 10 * row], 8000 if row % 2 else 4000)
            name = f"{made.labels['syllable'][row]}/{row:02d}.wav"
            archive.write(tmp_path / "one.wav", name)
            lengths[name] = len(wave[: 800 + 10 * row]) * (1 if row % 2 else 2)
    data = column_data("sounds", tmp_path / "all.zip", Reads(rate=8000), streamed=True)
    notes = []
    data.fit([], np.arange(0, 8, 2), notes)
    assert data.shape().fields["x"].shape == (max(lengths[name] for name in data.names[:8:2]),)
    batch = data.inputs_of(np.arange(len(data))).batch(torch.tensor([3, 1])).inputs
    assert batch.shape == (2, data.file.n_samples)
    longer = sum(length > data.file.n_samples for length in lengths.values())
    assert [note.split()[1] for note in notes] == ([str(longer)] if longer else [])
    write_wav(tmp_path / "one.wav", made.waves[0], 8000)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "x.wav").write_bytes((tmp_path / "one.wav").read_bytes()[:-50])
    cut = column_data("cut", tmp_path / "cut", Reads(), streamed=True)
    with pytest.raises(InputError, match=r"x\.wav is cut short"):
        cut.fit([], np.arange(1), [])


def test_rows_of_text_files_are_found_whatever_their_cells_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("polytask.data.text_rows._PIECE", 7)
    texts = ["a, b", 'say ""hm""', "two\nlines", "x", "naïve café", "tail"]
    rows = "".join(f'{row},"{text}"\r\n' + ("\r\n" if row == 2 else "") for row, text in enumerate(texts))
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid,text\r\n" + rows.encode()[:-2])
    lines = TextLines(tmp_path / "a.csv", "text")
    wanted = [text.replace('""', '"') for text in texts]
    assert lines.read(np.arange(6)) == wanted == pd.read_csv(tmp_path / "a.csv")["text"].tolist()
    assert lines.beside().column("id").tolist() == list(range(6))
    frame = pd.DataFrame({"text": wanted, "y": [1, 2, None, 4, 5, 6]})
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    lines = TextLines(tmp_path / "a.jsonl", "text")
    assert lines.read(np.array([5, 2])) == [wanted[5], wanted[2]]
    assert lines.beside().column("y").isna().sum() == 1


def test_texts_that_cannot_be_used_are_named_by_their_row(tmp_path):
    rows = made_up_sentences(40)
    frame = pd.DataFrame({"text": [" ".join(r["words"]) for r in rows], "pos": [" ".join(r["pos"]) for r in rows]})
    recipe = {"tasks": {"pos": "tagging"}, "encoder": {"name": "bigru", "width": 4}, "training": SMALL}

    def run(name, changed, **more):
        getattr(changed, "to_csv" if name.endswith("csv") else "to_parquet")(tmp_path / name, index=False)
        return Recipe(**recipe, data={"t": {"path": str(tmp_path / name), "reads": "text", "streamed": True}}).run()

    with pytest.raises(InputError, match=r"empty\.csv have no word in row 7"):
        run("empty.csv", frame.assign(text=frame["text"].where(frame.index != 7, " ")))
    with pytest.raises(InputError, match=r"empty\.parquet need a text .* in row 7, got (None|nan)"):
        run("empty.parquet", frame.assign(text=frame["text"].where(frame.index != 7, None)))
    with pytest.raises(TargetError, match="tags in row 9 of"):
        run("tags.csv", frame.assign(pos=frame["pos"].where(frame.index != 9, "NOUN NOUN")))
    with pytest.raises(DataError, match="can only be streamed from a Parquet file, or a CSV"):
        Recipe(**recipe, data={"t": {"reads": "text", "streamed": True}}).run(frame)
    found = run("fine.parquet", frame)
    assert any("labels of task" in note for note in run_with_unknown(tmp_path, recipe, frame).record.notes)
    assert found.predict(tmp_path / "fine.parquet")["pos"].values[0]


def run_with_unknown(tmp_path, recipe, frame):
    """A tag that no training row has."""
    changed = frame.assign(part=np.where(frame.index < 30, "train", "test"))
    changed.loc[35, "pos"] = " ".join(["NEVER", *changed.loc[35, "pos"].split()[1:]])
    changed.to_csv(tmp_path / "unknown.csv", index=False)
    data = {"t": {"path": str(tmp_path / "unknown.csv"), "reads": "text", "streamed": True}}
    return Recipe(**recipe, data=data, split={"method": "given", "column": "part", "validation": 0.0}).run()


def test_a_model_of_files_answers_for_folders_tables_and_requests(photos, tmp_path):
    import base64

    run = Recipe(**of_photos(photos)).run(out=tmp_path / "run")
    bundle = load(tmp_path / "run")
    n_rows, names = predict_file(bundle, photos, tmp_path / "out.csv", piece=20)
    out = pd.read_csv(tmp_path / "out.csv")
    assert (n_rows, names[0]) == (48, "file")
    assert out["file"].tolist() == sorted(file.name for file in photos.iterdir())
    assert out["who"].tolist() == run.predict(photos)["who"].values.tolist()
    pd.DataFrame({"file": [f"photos/{name}" for name in out["file"]]}).to_csv(tmp_path / "some.csv", index=False)
    predict_file(bundle, tmp_path / "some.csv", tmp_path / "more.csv", piece=20)
    assert pd.read_csv(tmp_path / "more.csv")["who"].tolist() == out["who"].tolist()
    inline = "data:image/png;base64," + base64.b64encode((photos / out["file"][0]).read_bytes()).decode()
    reader = RowReader(bundle, "photos")
    answer = bundle.predict(reader.data(reader.read([{"file": inline}])), source="photos")
    assert answer["who"].values.tolist() == out["who"].tolist()[:1]
    with pytest.raises(CellError, match="an image"):
        reader.read([{"file": str(photos / out["file"][0])}])
    table = reader.data({"file": np.array(["/etc/passwd"], dtype=object)})
    with pytest.raises(InputError, match="No path that somebody sends is opened"):
        bundle.predict(table, source="photos")


def test_sources_of_one_division_are_as_they_were_once_another_is_learned(tmp_path):
    rows = made_up_sentences(30)
    frame = pd.DataFrame({"text": [" ".join(r["words"]) for r in rows]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="no column beside 'text'"):
        column_data("it", tmp_path / "t.csv", Reads("text"))
    frame.assign(y=1.0).to_csv(tmp_path / "t.csv", index=False)
    for row in range(4):
        write_wav(tmp_path / f"{row}.wav", np.full(100 + 50 * row, 0.5), 8000)
    for path, reads in ((tmp_path / "t.csv", Reads("text", longest=3)), (tmp_path, Reads())):
        data = column_data("it", path, reads, streamed=True)
        data.fit([], np.arange(2), [])
        source = data.inputs_of(np.arange(4))
        before = source.batch(torch.arange(4)).inputs
        data.fit([], np.arange(len(data)), [])
        after = source.batch(torch.arange(4)).inputs
        if isinstance(before, torch.Tensor):
            before, after = {"x": before}, {"x": after}
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_study_of_streamed_photos_leaves_a_model_that_answers(photos, tmp_path):
    from polytask import Study
    from polytask.study import Protocol

    data = {"photos": {"path": str(photos), "reads": PHOTOS, "streamed": True}}
    recipe = Recipe(tasks={"who": "binary", "kind": "multiclass"}, data=data)
    sets = open_data(recipe, None)
    protocol, settings = Protocol(folds=2, repeats=1), {"encoder": CNN, "training": SMALL}
    Study(sets[0], recipe.tasks, arms=["joint"], protocol=protocol, out=tmp_path / "study", **settings).run()
    assert len(load(tmp_path / "study" / "bundle").predict(photos)["who"].values) == 48
