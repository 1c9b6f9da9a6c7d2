"""Models that read one column of texts or files, over HTTP: what is answered, asked for, and named."""

import base64
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from running_server import running

from polytask import Recipe
from polytask.data import made_up_sentences, spoken_syllables, write_wav
from polytask.errors import InputError
from polytask.serving.streaming import predict_file
from polytask.training.text_data import TextData

SMALL = {"epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def of_texts():
    rows = made_up_sentences(40)
    labels = {"pos": [" ".join(r["pos"]) for r in rows], "genre": [r["genre"] for r in rows]}
    data = TextData("notes", [r["words"] for r in rows], labels)
    tasks = {"pos": "tagging", "genre": "multiclass"}
    return Recipe(tasks=tasks, encoder={"name": "bigru", "width": 4}, training=SMALL).run(data).bundle


@pytest.fixture(scope="module")
def served_texts(of_texts):
    with running(of_texts) as (client, _):
        yield client


def test_texts_that_came_in_no_table_are_answered_word_by_word(served_texts, of_texts, tmp_path):
    texts = ["a good day .", "bad"]
    wanted = of_texts.predict(texts)
    found = served_texts.post("/predict", json={"rows": [{"text": text} for text in texts]}).json()["predictions"]
    assert [row["pos"]["value"] for row in found] == [list(tags) for tags in wanted["pos"].values]
    assert [len(row["pos"]["value"]) for row in found] == [4, 1]
    for row, shares in zip(found, wanted["genre"].probabilities, strict=True):
        np.testing.assert_allclose(list(row["genre"]["probabilities"].values()), shares, rtol=1e-5)
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "in.csv", index=False)
    assert predict_file(of_texts, tmp_path / "in.csv", tmp_path / "out.csv")[0] == 2
    assert pd.read_csv(tmp_path / "out.csv")["genre"].tolist() == wanted["genre"].values.tolist()


def test_a_task_of_words_that_no_model_answers_for_a_source_is_left_out(of_texts):
    bundle = replace(of_texts, answers={"pos": ()})
    assert list(bundle.predict(["a good day ."])) == ["genre"]
    with pytest.raises(InputError, match="answers \\['pos'\\] for rows of 'notes'"):
        bundle.predict(["a good day ."], ["pos"])


@pytest.mark.parametrize("text", [None, "", "  "])
def test_a_text_that_is_missing_is_named_by_row_and_column(served_texts, text):
    found = served_texts.post("/predict", json={"rows": [{"text": "a day"}, {"text": text}]})
    error = found.json()["error"]
    assert (found.status_code, error["row"], error["column"]) == (422, 1, "text")
    assert "a text is needed, got" in error["message"]
    schema = served_texts.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    cell = schema["application/json"]["schema"]["properties"]["rows"]["items"]["properties"]["text"]
    assert cell["type"] == "string"


@pytest.mark.parametrize("texts", [["NA", "a good day .", "null"], ["12", "7", "300"]])
def test_texts_of_a_file_are_read_as_they_are_written(served_texts, of_texts, tmp_path, texts):
    """``NA`` is a word in training, and so it is here; and a text may look like a number."""
    wanted = of_texts.predict(texts)["genre"].values.tolist()
    table = "text\n" + "\n".join(texts) + "\n"
    (tmp_path / "in.csv").write_text(table)
    assert predict_file(of_texts, tmp_path / "in.csv", tmp_path / "out.csv", piece=2)[0] == 3
    assert pd.read_csv(tmp_path / "out.csv")["genre"].tolist() == wanted
    found = served_texts.post("/predict/file", content=table, headers={"content-type": "text/csv"})
    assert found.status_code == 200, found.text
    assert pd.read_csv(io.StringIO(found.text))["genre"].tolist() == wanted


def test_a_piece_of_a_file_names_the_row_of_the_whole(of_texts, tmp_path):
    texts = ["a day"] * 30
    texts[25] = " "
    pd.DataFrame({"text": texts, "y": 1}).to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(InputError, match=r"Row 25 of .*in\.csv has no text in 'text'"):
        predict_file(of_texts, tmp_path / "in.csv", tmp_path / "out.csv", piece=10)


def test_a_page_asks_for_recordings_as_files(tmp_path):
    made = spoken_syllables(3, n_speakers=2, n_syllables=3)
    (tmp_path / "sounds").mkdir()
    for row, wave in enumerate(made.waves):
        write_wav(tmp_path / "sounds" / f"{made.labels['syllable'][row]}_{row}.wav", wave, made.rate)
    data = {"sounds": {"path": str(tmp_path / "sounds"), "reads": {"pattern": "(?P<syllable>.*)_[0-9]+"}}}
    encoder = {"name": "speech", "n_mels": 8, "channels": [4], "width": 4}
    run = Recipe(tasks={"syllable": "multiclass"}, encoder=encoder, data=data, training=SMALL).run()
    with running(run.bundle) as (client, _):
        assert 'data-column="file" data-kind="sound" type="file" accept=".wav,audio/wav"' in client.get("/").text
        file = next((tmp_path / "sounds").iterdir())
        inline = "data:audio/wav;base64," + base64.b64encode(file.read_bytes()).decode()
        found = client.post("/predict", json={"rows": [{"file": inline}]}).json()["predictions"]
        assert found[0]["syllable"]["value"] == run.predict([str(file)])["syllable"].values[0]
        error = client.post("/predict", json={"rows": [{"file": inline}, {"file": None}]}).json()["error"]
        assert (error["row"], error["column"]) == (1, "file")
        assert "base64,..., is needed, got None" in error["message"]
