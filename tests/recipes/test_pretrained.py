"""A language model from a folder: its own vectors, low-rank changes of it for each task, bundles, bad folders."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from polytask import Recipe, load
from polytask.data import PretrainedVocabulary, made_up_reviews, made_up_sentences
from polytask.errors import DataError, InputError, RecipeError
from polytask.models.encoders.pretrained import Pretrained
from polytask.models.inputs import Field, InputShape
from polytask.models.sharing import registry as sharings
from polytask.models.stages import fresh_copy
from polytask.testing import check_encoder
from polytask.training.text_data import TextData

ROWS = made_up_sentences(120)
WORDS = [row["words"] for row in ROWS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with random weights, saved as the library saves models."""
    import transformers

    path = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([" ".join(words) for words in WORDS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=150, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(path)
    return path


def shape(vocabulary, length):
    n = vocabulary.options["pieces_a_word"]
    return InputShape({"words": Field((length,), (3,)), "pieces": Field((length, n), (vocabulary.n_pieces,))})


def test_it_keeps_the_contract_of_encoders(folder):
    inputs = {source: shape(PretrainedVocabulary(folder), length) for source, length in (("a", 6), ("b", 4))}
    check_encoder(Pretrained, options={"path": folder, "freeze": True}, inputs=inputs)  # BERT's pooler is not read


def test_vectors_of_words_are_the_models_own(folder):
    import transformers

    vocabulary = PretrainedVocabulary(folder, pieces_a_word=8)
    encoder = Pretrained({"notes": shape(vocabulary, 9)}, folder).eval()
    texts = [WORDS[0][:9], WORDS[1][:3], ["Ba"], WORDS[2][:7]]
    codes = vocabulary.encode(texts, 9)
    found = encoder(codes).view(len(texts), -1, 16)
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for row, text in enumerate(texts):
        pieces = tokenizer.encode(text, is_pretokenized=True)
        hidden = model(input_ids=torch.tensor([pieces.ids])).last_hidden_state[0]
        first = [pieces.word_ids.index(word) for word in range(len(text))]
        torch.testing.assert_close(found[row, : len(text)], hidden[first], atol=1e-5, rtol=1e-5)
    assert encoder.present(codes).sum(1).tolist() == [len(text) for text in texts]


def sources(folder):
    vocabulary = PretrainedVocabulary(folder)
    reviews = made_up_reviews(120)
    labels = {"pos": [row["pos"] for row in ROWS]}
    labels["pos"][3] = None
    return [
        TextData("sentences", WORDS, labels, vocabulary),
        TextData("reviews", [text for text, _ in reviews], {"mood": [mood for _, mood in reviews]}, vocabulary),
    ]


def recipe(folder, **sharing):
    return Recipe(
        tasks={"pos": "tagging", "mood": "binary"},
        encoder={"name": "pretrained", "path": str(folder)},
        sharing={"name": "lora", "rank": 4, "freeze": True, **sharing},
        training={"epochs": 6, "batch_size": 16, "learning_rate": 1e-2},
    )


@pytest.mark.parametrize("common", [False, True])
def test_low_rank_changes_are_learned_and_the_model_stays(folder, tmp_path, common):
    import transformers

    run = recipe(folder, common=common).run(sources(folder), out=tmp_path / "run")
    assert run.record.tasks["pos"].metrics["relative_error"] < 0.9
    before = transformers.BertModel.from_pretrained(folder).state_dict()
    after = run.bundle.models[0].model.state_dict()
    for name, value in before.items():
        kept = [v for key, v in after.items() if key.replace(".base.", ".").endswith(f".model.{name}")]
        assert len(kept) == 1
        assert torch.equal(kept[0], value), name
    changes = {key for key in after if ".up" in key}
    assert len(changes) == (1 if common else 2) * 13  # six dense layers in each of two layers, and the pooler
    assert any(after[key].any() for key in changes)
    texts = [WORDS[0], ["Unseen", "words", "here"]]
    mine, theirs = (
        b.predict(texts, source="sentences")["pos"].values.tolist() for b in (run.bundle, load(tmp_path / "run"))
    )
    assert mine == theirs
    assert [len(tags) for tags in mine] == [len(text) for text in texts]


def test_a_copy_keeps_what_the_model_learned_elsewhere(folder):
    vocabulary = PretrainedVocabulary(folder)
    encoder = Pretrained({"notes": shape(vocabulary, 9)}, folder)
    copied = fresh_copy(encoder)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), copied.parameters(), strict=True))
    frozen = Pretrained({"notes": shape(vocabulary, 9)}, folder, freeze=True)
    assert not any(p.requires_grad for p in frozen.parameters())
    sharing = sharings.create("hard", frozen, ["a", "b"])
    assert sharing(vocabulary.encode([WORDS[0][:9]], 9))["a"].shape[1] == 16


def test_words_that_have_no_piece_are_unknown_ones(folder):
    codes = PretrainedVocabulary(folder, pieces_a_word=2).encode([["\u200b", "Kibaville"]], 3)
    assert codes["words"].tolist() == [[2, 2, 0]]
    assert codes["pieces"][0, 0].tolist() == [2, 0]
    assert (codes["pieces"][0, 1] > 0).all()


def test_folders_that_hold_no_model_are_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        PretrainedVocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read"):
        PretrainedVocabulary(tmp_path)
    vocabulary = PretrainedVocabulary(folder)
    known = {"notes": shape(vocabulary, 9)}
    with pytest.raises(RecipeError, match="holds no model"):
        Pretrained(known, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 16}))
    with pytest.raises(RecipeError, match="cannot be loaded"):
        Pretrained(known, tmp_path)
    with pytest.raises(InputError, match="reads words and their pieces"):
        Pretrained({"notes": InputShape({"words": Field((9,), (3,))})}, folder)
    other = {"notes": InputShape({"words": Field((9,), (3,)), "pieces": Field((9, 4), (999,))})}
    with pytest.raises(RecipeError, match="PretrainedVocabulary of the same folder"):
        Pretrained(other, folder)
    encoder = Pretrained({"notes": shape(vocabulary, 80)}, folder)
    with pytest.raises(InputError, match="the model reads 64"):
        encoder(vocabulary.encode([np.repeat(["Kibaville"], 80).tolist()], 80))
