"""Numbers among the options of encoders and ways of sharing: out of range they are refused by name, not by PyTorch."""

import math

import pytest
import torch

from polytask.errors import InputError, RecipeError
from polytask.models.building import build_model
from polytask.models.encoders import registry as encoders
from polytask.models.inputs import InputShape
from polytask.models.spec import ModelSpec
from polytask.models.stages import BySource

VECTORS = InputShape.of(torch.zeros(1, 7))


def build(**changes):
    return build_model(ModelSpec({"main": VECTORS}, {"a": 1, "b": 1}, **changes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": [8, 0]}, r"widths of encoder 'mlp' takes numbers of at least 1; got \[8, 0\]"),
        ({"widths": [-1]}, r"takes numbers of at least 1; got \[-1\]"),
        ({"widths": []}, "one layer or more"),
        ({"dropout": -0.1}, "dropout of encoder 'mlp' takes a number from 0 to 1; got -0.1"),
        ({"dropout": math.nan}, "takes a number from 0 to 1; got nan"),
    ],
)
def test_options_of_the_encoder_out_of_range_are_named(options, message):
    with pytest.raises(RecipeError, match=message):
        build(encoder_options=options)


@pytest.mark.parametrize(
    ("sharing", "options", "message"),
    [
        ("mtan", {"squeeze": 0}, "squeeze of sharing 'mtan' takes a number of at least 1; got 0"),
        ("mmoe", {"expert_widths": [0]}, r"expert_widths of sharing 'mmoe' takes numbers of at least 1; got \[0\]"),
        ("cgc", {"dropout": 2.0}, "from 0 to 1; got 2.0"),
        ("residual_adapters", {"bottleneck": -1}, "of at least 0; got -1"),
        ("cross_stitch", {"own_weight": math.nan}, "takes a number that is finite; got nan"),
        ("soft_l2", {"strength": math.inf}, "takes a number that is finite; got inf"),
    ],
)
def test_options_of_the_sharing_out_of_range_are_named(sharing, options, message):
    with pytest.raises(RecipeError, match=message):
        build(sharing=sharing, sharing_options=options)


def test_options_at_the_ends_of_their_ranges_are_taken():
    made = build(encoder_options={"widths": [1], "dropout": 1.0}, sharing="residual_adapters",
                 sharing_options={"bottleneck": 0})  # fmt: skip
    assert made.sharing.width == 1


def test_what_an_encoder_of_numbers_cannot_read_is_named():
    coded = InputShape.of({"kind": torch.zeros(1, 2).long()}, {"kind": (3, 3)})
    with pytest.raises(InputError, match="reads numbers, but kind holds categories"):
        encoders.create("mlp", {"main": coded})


def test_rows_of_an_unnamed_source_are_refused_where_there_are_several():
    stage = BySource({"a": torch.nn.Identity(), "b": torch.nn.Identity()})
    with pytest.raises(InputError, match="reads the sources a, b: say with source="):
        stage(torch.zeros(1, 1))
