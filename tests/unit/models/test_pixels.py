"""Encoders of pixels: what a pixel and a whole image get, every way of sharing, what cannot be built."""

import pytest
import torch

from polytask.errors import InputError, RecipeError
from polytask.models.building import build_model
from polytask.models.encoders import registry
from polytask.models.inputs import Field, InputShape
from polytask.models.maps import folded
from polytask.models.sharing import registry as sharings
from polytask.models.spec import ModelSpec

SHAPE = InputShape({"x": Field((1, 8, 12))})
SMALL = {"channels": (4, 6, 16), "width": 8}
REFUSED = ("esmm", "output_space")
"""Sharings that make one task's answer out of others'."""


def model(
    sharing="hard", sources=None, pixels=("mask",), encoder="unet", options=None, tasks=("mask", "depth", "kind")
):
    n_outputs = {"mask": 3, "depth": 1, "kind": 2}
    spec = ModelSpec(
        sources or {"a": SHAPE},
        {task: n_outputs[task] for task in tasks},
        encoder=encoder,
        sharing=sharing,
        encoder_options=SMALL if encoder == "unet" else {},
        sharing_options=options or {},
        element_tasks=pixels,
        pixel_tasks=pixels,
    )
    torch.manual_seed(0)
    return build_model(spec)


def images(n=3):
    return torch.rand(n, 1, 8, 12, generator=torch.Generator().manual_seed(1))


def test_a_stage_ends_in_one_tensor_and_no_finer_map_is_lost():
    encoder = registry.create("unet", {"a": SHAPE}, **SMALL)
    shapes = []
    x = images()
    for stage in encoder.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    # Behind each block's own channels: the finer maps folded, on the way up also the coarsest map.
    assert shapes == [
        (4, 8, 12),
        (6 + 16, 4, 6),
        (16 + 4 * (6 + 16), 2, 3),
        (6 + 16 + 4, 4, 6),
        (4 + 0 + 1, 8, 12),
        (8,),
    ]
    assert len(x) == 3 * (8 * 12 + 1)


def test_the_coarsest_map_reaches_the_last_stage_as_it_was():
    encoder = registry.create("unet", {"a": SHAPE}, **SMALL).eval()
    x = images()
    for stage in encoder.stages[:3]:
        x = stage(x)
    coarsest = x[:, :16]
    for stage in encoder.stages[3:5]:
        x = stage(x)
    assert torch.equal(folded(x[:, 4:], 2), coarsest)


def test_pixels_see_their_neighbourhood_and_whole_images_everything():
    made = model(pixels=("mask", "depth")).eval()
    batch = images()
    out = made(batch)
    assert out["mask"].shape == (3, 8, 12, 3)
    assert out["depth"].shape == (3, 8, 12, 1)
    assert out["kind"].shape == (3, 2)
    changed = batch.clone()
    changed[0, 0, 0, 0] = 1.0 - changed[0, 0, 0, 0]
    other = made(changed)
    assert not torch.equal(out["mask"][0, 0, 0], other["mask"][0, 0, 0])
    assert torch.equal(out["mask"][1:], other["mask"][1:])
    assert torch.equal(made(batch, ["depth"])["depth"], out["depth"])
    one = made(batch[:1])
    torch.testing.assert_close(one["mask"], out["mask"][:1])
    torch.testing.assert_close(one["kind"], out["kind"][:1])


def test_bytes_and_images_without_channels_are_read_too():
    made = model(sources={"a": InputShape({"x": Field((8, 12))})}).eval()
    assert made(images()[:, 0])["mask"].shape == (3, 8, 12, 3)


def test_sources_with_other_channels_meet_one_trunk():
    colour = InputShape({"x": Field((3, 8, 12))})
    made = model(sources={"a": SHAPE, "b": colour})
    assert made(torch.rand(2, 3, 8, 12), source="b")["mask"].shape == (2, 8, 12, 3)


VARIANTS = [
    *((name, {}) for name in sharings.names()),
    ("hard", {"ratio": 0.5}),
    ("hard", {"ratio": 0.0}),
    ("cross_stitch", {"ratio": 0.5}),
    ("mmoe", {"ratio": 0.8, "expert_widths": (), "n_experts": 2}),
    ("ple", {"ratio": 0.8}),
]


@pytest.mark.parametrize(("sharing", "options"), VARIANTS, ids=[f"{n}-{'-'.join(o)}" for n, o in VARIANTS])
def test_every_sharing_takes_pixels_or_says_why_not(sharing, options):
    if sharing == "output_space":
        options = {"labels": {"mask": ["x"], "depth": ["x"], "kind": ["x"]}}
    try:
        made = model(sharing, options=options, pixels=("mask", "depth"))
    except RecipeError:
        is_refused = True
    else:
        is_refused = False
    assert is_refused == (sharing in REFUSED)
    if is_refused:
        return
    out = made(images())
    assert out["mask"].shape == (3, 8, 12, 3)
    assert out["depth"].shape == (3, 8, 12, 1)
    assert out["kind"].shape == (3, 2)
    torch.stack([o.square().sum() for o in out.values()]).sum().backward()
    learned = {p for p in made.parameters() if p.grad is not None and p.grad.any()}
    for task in made.tasks:
        assert learned.intersection(made.sharing.reached_by(task)), f"nothing below the head of {task} is learned"
    made.eval()
    alone = made(images(), ["kind"])["kind"]
    torch.testing.assert_close(alone, made(images())["kind"])


@pytest.mark.parametrize("task", ["mask", "kind"])
def test_attention_along_the_maps_reaches_every_mask(task):
    made = model("mtan").train()
    made(images(), [task])[task].square().sum().backward()
    without = [n for n, p in made.sharing.attention[task].named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_what_cannot_be_built_is_said():
    with pytest.raises(RecipeError, match=r"each pixel of a row.*'mlp' represents rows. Encoders of pixels: unet"):
        model(encoder="mlp", sources={"a": InputShape({"x": Field((4,))})})
    with pytest.raises(RecipeError, match="represents rows"):
        model(encoder="cnn", sources={"a": InputShape({"x": Field((1, 28, 28))})})
    words = ModelSpec({"a": SHAPE}, {"tags": 3}, encoder="unet", element_tasks=("tags",))
    with pytest.raises(RecipeError, match=r"represents pixels. Encoders of elements: bigru"):
        build_model(words)
    with pytest.raises(InputError, match="10 x 12 cannot be halved 2 times"):
        model(sources={"a": InputShape({"x": Field((1, 10, 12))})})
    with pytest.raises(InputError, match="one height and width; got a: 8 x 12, b: 8 x 8"):
        model(sources={"a": SHAPE, "b": InputShape({"x": Field((1, 8, 8))})})
    for channels, message in (((4,), "at least two blocks"), ((4, 8, 6), "multiple of 16 channels, got 6")):
        with pytest.raises(RecipeError, match=message):
            build_model(ModelSpec({"a": SHAPE}, {"mask": 3}, encoder="unet", encoder_options={"channels": channels}))
