"""Encoders of words: padding and the batch change nothing, rows and elements, several sources, what cannot be built."""

import copy

import pytest
import torch

from polytask.errors import InputError, RecipeError
from polytask.models.building import build_model
from polytask.models.encoders import registry
from polytask.models.encoders._words import WordEncoder, WordVectors
from polytask.models.encoders.transformer import sines
from polytask.models.inputs import Field, InputShape
from polytask.models.sharing import registry as sharings
from polytask.models.spec import ModelSpec
from polytask.models.stages import fresh_copy

WORDS = [name for name in registry.names() if issubclass(registry.load(name), WordEncoder)]
SHAPE = InputShape({"words": Field((7,), (12,)), "pieces": Field((7, 2), (9,))})
REFUSED = ("esmm", "output_space")
"""Sharings that make one task's answer out of others'."""
SMALL = {"width": 8, "dropout": 0.0}


def rows(lengths=(7, 3, 1), width=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    there = torch.arange(width) < torch.tensor(lengths)[:, None]
    words = torch.randint(1, 12, (len(lengths), width), generator=g) * there
    pieces = torch.randint(0, 9, (len(lengths), width, 2), generator=g) * there[..., None]
    return {"words": words, "pieces": pieces}


def model(name, sharing="hard", sources=None, elements=("tags",), **options):
    spec = ModelSpec(
        sources or {"a": SHAPE},
        {"tags": 3, "mood": 2},
        encoder=name,
        sharing=sharing,
        encoder_options={**SMALL, **options},
        element_tasks=elements,
    )
    torch.manual_seed(0)
    return build_model(spec)


def test_there_are_three():
    assert WORDS == ["bigru", "text_cnn", "transformer"]


@pytest.mark.parametrize("name", WORDS)
def test_a_row_s_answers_do_not_depend_on_its_batch_nor_on_padding(name):
    made = model(name).eval()
    batch = rows()
    together = made(batch)
    assert together["tags"].shape == (3, 7, 3)
    assert together["mood"].shape == (3, 2)
    for row, length in enumerate((7, 3, 1)):
        alone = made({key: value[row : row + 1] for key, value in batch.items()})
        torch.testing.assert_close(alone["tags"][0], together["tags"][row])
        torch.testing.assert_close(alone["mood"][0], together["mood"][row])
        assert not together["tags"][row, length:].any()


@pytest.mark.parametrize("name", WORDS)
def test_what_a_word_says_reaches_all_tasks_and_padding_none(name):
    made = model(name).eval()
    batch = rows()
    changed = copy.deepcopy(batch)
    changed["words"][1, 1] = batch["words"][1, 1] % 11 + 1
    before, after = made(batch), made(changed)
    assert not torch.allclose(before["tags"][1], after["tags"][1])
    assert not torch.allclose(before["mood"][1], after["mood"][1])
    for task in before:  # nor do the other rows of the batch see it
        torch.testing.assert_close(before[task][[0, 2]], after[task][[0, 2]])
    made.train()
    out = made(batch)
    (out["tags"].sum() + out["mood"].sum()).backward()
    embedding = next(m for m in made.modules() if isinstance(m, torch.nn.Embedding))
    assert not embedding.weight.grad[0].any()


@pytest.mark.parametrize("name", WORDS)
def test_a_row_of_padding_only_gives_numbers(name):
    made = model(name).eval()
    empty = {key: torch.zeros_like(value) for key, value in rows().items()}
    out = made(empty)
    assert all(bool(value.isfinite().all()) for value in out.values())
    mixed = rows((0, 4, 2))
    assert all(bool(value.isfinite().all()) for value in made(mixed).values())


@pytest.mark.parametrize("name", WORDS)
def test_sources_of_different_lengths_meet_one_trunk(name):
    longer = InputShape({"words": Field((11,), (12,)), "pieces": Field((11, 2), (9,))})
    made = model(name, sources={"a": SHAPE, "b": longer}).eval()
    short = rows()
    padded = {key: torch.cat([v, torch.zeros(3, 4, *v.shape[2:], dtype=v.dtype)], 1) for key, v in short.items()}
    one, other = made(short, source="a"), made(padded, source="b")
    torch.testing.assert_close(one["tags"], other["tags"][:, :7])
    torch.testing.assert_close(one["mood"], other["mood"])


@pytest.mark.parametrize("sharing", sharings.names())
def test_every_sharing_takes_elements_or_says_why_not(sharing):
    options = {"output_space": {"labels": {"tags": ["x"], "mood": ["x"]}}}.get(sharing, {})
    spec = ModelSpec(
        {"a": SHAPE},
        {"tags": 3, "mood": 2},
        encoder="bigru",
        sharing=sharing,
        encoder_options=SMALL,
        sharing_options=options,
        element_tasks=("tags",),
    )
    try:
        made = build_model(spec)
    except RecipeError:
        is_refused = True
    else:
        is_refused = False
    assert is_refused == (sharing in REFUSED)
    if is_refused:
        return
    out = made(rows())
    assert out["tags"].shape == (3, 7, 3)
    assert out["mood"].shape == (3, 2)
    (out["tags"].sum() + out["mood"].sum()).backward()


def test_what_cannot_be_built_is_said():
    with pytest.raises(RecipeError, match="answers for each element"):
        build_model(ModelSpec({"a": InputShape.of(torch.zeros(1, 4))}, {"tags": 3}, element_tasks=("tags",)))
    with pytest.raises(RecipeError, match="how many codes"):
        model("bigru", sources={"a": InputShape({"words": Field((7,))})})
    with pytest.raises(InputError, match="needs codes of shape"):
        model("bigru", sources={"a": InputShape.of(torch.zeros(1, 3, 8, 8))})
    other = InputShape({"words": Field((7,), (15,)), "pieces": Field((7, 2), (9,))})
    with pytest.raises(InputError, match="one Vocabulary"):
        model("bigru", sources={"a": SHAPE, "b": other})
    with pytest.raises(RecipeError, match="multiple of twice"):
        model("transformer", n_heads=3)
    assert model("bigru", sources={"a": InputShape.of(torch.zeros(1, 7))}, vocabulary=12)(rows()["words"])["mood"].shape
    views = {"mood": {"a": {"words": (0, 1)}}}
    spec = ModelSpec({"a": SHAPE}, {"mood": 2}, encoder="bigru", encoder_options=SMALL, views=views)
    with pytest.raises(RecipeError, match="leave `inputs`"):
        build_model(spec)


def test_low_rank_changes_of_a_transformer_count_in_prediction_too():
    spec = ModelSpec(
        {"a": SHAPE},
        {"tags": 3, "mood": 2},
        encoder="transformer",
        encoder_options={"width": 8, "n_heads": 2, "dropout": 0.0},
        sharing="lora",
        sharing_options={"rank": 2},
        element_tasks=("tags",),
    )
    made = build_model(spec)
    batch = rows()
    before = made.eval()(batch)["tags"]
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    predicted = made.eval()(batch)["tags"]
    torch.testing.assert_close(made.train()(batch)["tags"], predicted)
    assert not torch.allclose(before, predicted)


@pytest.mark.parametrize("name", ["transformer", "seq2seq"])
def test_places_are_heard_beside_words_in_copies_too(name):
    """What attention reads is the sum of both, so that words much longer than places would drown them."""
    torch.manual_seed(0)
    encoder = registry.create(name, {"a": SHAPE}, width=64, n_heads=2)
    for made in (encoder, fresh_copy(encoder)):
        (words,) = (module for module in made.modules() if isinstance(module, WordVectors))
        vectors, there = words.eval()(torch.tensor([[[3, 2, 4], [7, 1, 5], [9, 6, 0], [11, 3, 0]]]))
        word, place = (v.square().mean().sqrt() for v in (vectors[there] * 64**0.5, sines(vectors)))
        assert 0.5 < word / place < 3.0
        assert not words.words.weight[0].any()
