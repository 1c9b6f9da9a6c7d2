"""Every encoder: shapes, sources that differ, every split point, wrong shapes, NaN, and the same network from a copy."""

import copy

import pytest
import torch
from torch import nn

from polytask.errors import InputError, RecipeError
from polytask.models.building import build_model
from polytask.models.encoders import registry
from polytask.models.inputs import Field, InputShape
from polytask.models.sharing import registry as sharings
from polytask.models.spec import ModelSpec
from polytask.models.stages import shapes_after

# What every encoder has to do is in tests/conformance/test_encoders_contract.py, where a new one is found by itself; the rows
# below are for what is said of these few beyond it, and a new encoder needs none.
CODES = {"categorical": (4, 7)}


def vectors(n=5, d=6):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def table(n=5, d=3):
    return {
        "numeric": vectors(n, d),
        "categorical": torch.randint(0, 4, (n, 2), generator=torch.Generator().manual_seed(1)),
    }


def images(n=5, *extents):
    return torch.rand(n, *extents, generator=torch.Generator().manual_seed(0))


ONE_SOURCE = {
    "mlp": {"main": vectors()},
    "tabular": {"main": table()},
    "tabm": {"main": table()},
    "cnn": {"main": images(5, 12, 12)},
    "resnet18": {"main": images(5, 3, 16, 16)},
    "speech": {"main": images(5, 900)},
}
SEVERAL = {
    "mlp": {"a": vectors(5, 6), "b": vectors(4, 3), "c": {"x": vectors(4, 2), "y": vectors(4, 5)}},
    "tabular": {
        "a": table(5, 3),
        "b": {"numeric": vectors(4, 8)},
        "c": {"categorical": torch.zeros(3, 2, dtype=torch.int64)},
    },
    "tabm": {"a": table(5, 3), "b": {"numeric": vectors(4, 8)}, "c": table(3, 2)},
    "cnn": {"a": images(5, 12, 12), "b": images(4, 3, 20, 16), "c": images(3, 12, 12)},
    "resnet18": {"a": images(5, 3, 16, 16), "b": images(4, 24, 24)},
    "speech": {"a": images(5, 900), "b": images(4, 1300), "c": images(3, 900)},
}
OPTIONS = {
    "mlp": {"widths": (8, 7, 6)},
    "tabular": {"width": 8, "dropout": 0.0},
    "tabm": {"k": 1, "width": 8, "dropout": 0.0},
    "cnn": {"channels": (3, 4), "width": 9},
    "resnet18": {"base": 2},
    "speech": {"channels": (3, 4), "width": 9, "n_mels": 12},
}


def build(name, sources, **options):
    torch.manual_seed(0)
    shapes = {s: InputShape.of(rows, CODES) for s, rows in sources.items()}
    return registry.create(name, shapes, **{**OPTIONS[name], **options})


def length(rows):
    return len(rows if isinstance(rows, torch.Tensor) else next(iter(rows.values())))


@pytest.mark.parametrize("sources", [ONE_SOURCE, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize("name", OPTIONS)
def test_sources_of_any_shape_meet_one_trunk(name, sources):
    encoder = build(name, sources[name])
    trunk = [p for stage in list(encoder.stages)[1:] for p in stage.parameters()]
    for source, rows in sources[name].items():
        out = encoder(rows, source)
        assert out.shape == (length(rows), encoder.width)
        grads = torch.autograd.grad(out.square().sum(), trunk, allow_unused=True)
        assert all(g is not None for g in grads), f"{source} does not reach the whole trunk"


@pytest.mark.parametrize("name", OPTIONS)
def test_several_sources_must_be_named(name):
    encoder = build(name, SEVERAL[name])
    with pytest.raises(ValueError, match="say with source= whose rows these are"):
        encoder(SEVERAL[name]["a"])


@pytest.mark.parametrize("name", OPTIONS)
def test_hard_sharing_splits_at_every_stage(name):
    n = len(build(name, ONE_SOURCE[name]).stages)
    alone = build(name, ONE_SOURCE[name]).eval()
    rows = ONE_SOURCE[name]["main"]
    expected = alone(rows)
    total = sum(p.numel() for p in alone.parameters())
    for k in range(n + 1):
        sharing = sharings.create("hard", build(name, ONE_SOURCE[name]), ["a", "b"], ratio=k / n).eval()
        assert sharing.split == k
        out = sharing(rows)
        assert torch.allclose(out["a"], expected, atol=1e-6), "the first task is exactly the encoder that was given"
        assert torch.allclose(out["b"], expected, atol=1e-6) is (k == n), "the second has a tower of its own"
        below = sum(p.numel() for stage in list(alone.stages)[:k] for p in stage.parameters())
        assert sharing.count_parameters() == {"shared": below, "private": 2 * (total - below)}


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(RecipeError, match="between 0 and 1"):
        sharings.create("hard", build("mlp", ONE_SOURCE["mlp"]), ["a"], ratio=ratio)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_row_of_nan_spoils_only_itself(name):
    encoder = build(name, ONE_SOURCE[name]).eval()
    rows = ONE_SOURCE[name]["main"]
    bad = {k: v.clone() for k, v in rows.items()} if isinstance(rows, dict) else rows.clone()
    (bad["numeric"] if isinstance(bad, dict) else bad)[0] = torch.nan
    clean, spoiled = encoder(rows), encoder(bad)
    assert torch.allclose(clean[1:], spoiled[1:], atol=1e-6)
    assert spoiled[0].isnan().any()


@pytest.mark.parametrize("name", OPTIONS)
def test_shapes_after_changes_nothing(name):
    encoder = build(name, SEVERAL[name]).train()
    before = copy.deepcopy(encoder.state_dict())
    generator = torch.get_rng_state()
    shapes = [shapes_after(encoder.stages, shape, source) for source, shape in encoder.inputs.items()]
    assert all(found == shapes[0] for found in shapes), "after the first stage all sources look alike"
    assert shapes[0][-1] == (encoder.width,)
    assert all(module.training for module in encoder.modules())
    assert torch.equal(generator, torch.get_rng_state())
    after = encoder.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("cnn", images(2, 13, 12)), ("resnet18", images(2, 1, 16, 16)), ("mlp", vectors(2, 7)), ("tabular", table(2, 4))],
)
def test_a_batch_of_another_shape_is_refused_before_anything_runs(name, wrong):
    shapes = {s: InputShape.of(rows, CODES) for s, rows in ONE_SOURCE[name].items()}
    model = build_model(ModelSpec(shapes, {"a": 1}, encoder=name, encoder_options=OPTIONS[name]))
    model(ONE_SOURCE[name]["main"])
    with pytest.raises(InputError, match=r"was built for .* a row; got"):
        model(wrong)
    with pytest.raises(InputError, match="knows the sources 'main'; got rows of 'other'"):
        model(ONE_SOURCE[name]["main"], source="other")


def test_a_missing_field_is_named():
    model = build_model(ModelSpec({"main": InputShape.of(table(), CODES)}, {"a": 1}, encoder="tabular"))
    with pytest.raises(InputError, match=r"needs the input 'categorical'; got 'numeric'"):
        model({"numeric": vectors(2, 3)})


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_bytes_are_scaled(name):
    rows = (ONE_SOURCE[name]["main"] * 255).to(torch.uint8)
    encoder = build(name, {"main": rows}).eval()
    assert torch.allclose(encoder(rows), encoder(rows.float() / 255), atol=1e-6)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(InputError, match="too small"):
        registry.create("cnn", {"main": InputShape.of(images(1, 6, 6))}, channels=(2, 2, 2))


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_what_is_no_image_is_refused(name):
    with pytest.raises(InputError, match="one image a row"):
        registry.create(name, {"main": InputShape.of(vectors())})


def test_codes_are_refused_where_numbers_are_read():
    with pytest.raises(InputError, match="holds categories"):
        registry.create("mlp", {"main": InputShape.of(table(), CODES)})


def test_module_takes_a_sequence_apart_and_is_checked():
    shape = {"main": InputShape.of(vectors())}
    layers = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    encoder = registry.create("module", shape, module=layers)
    assert (len(encoder.stages), encoder.width) == (3, 4)
    assert torch.equal(encoder(vectors()), layers(vectors()))
    assert len(registry.create("module", shape, module=nn.Linear(6, 3)).stages) == 1
    assert len(registry.create("module", shape, module=[nn.Linear(6, 5), nn.Linear(5, 3)]).stages) == 2
    with pytest.raises(RecipeError, match=r"must turn B rows into \[B, D\]"):
        registry.create("module", shape, module=nn.Unflatten(1, (2, 3)))
    with pytest.raises(RecipeError, match="needs the network itself"):
        registry.create("module", shape)
    with pytest.raises(InputError, match="one shape only"):
        registry.create("module", {**shape, "b": InputShape.of(vectors(1, 2))}, module=layers)


@pytest.mark.parametrize("embedding", ["periodic", "linear", "mixed", "none"])
def test_tabular_embeds_numbers_each_way(embedding):
    encoder = build("tabular", ONE_SOURCE["tabular"], numeric_embedding=embedding)
    assert encoder(ONE_SOURCE["tabular"]["main"]).shape == (5, 8)
    with pytest.raises(RecipeError, match="numeric_embedding"):
        build("tabular", ONE_SOURCE["tabular"], numeric_embedding="cubic")
    with pytest.raises(InputError, match="'numeric', 'molecule' and 'categorical'"):
        registry.create("tabular", {"main": InputShape({"age": Field((2,)), "sex": Field((1,), (2,))})})
