"""Every registered way of sharing keeps the contract, with every kind of encoder."""

import pytest

from polytask.models.sharing import registry
from polytask.testing import check_sharing

CASES = ("mlp", "mlp_two_sources", "tabular", "cnn", "cnn_two_sources", "resnet18", "speech")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", registry.names())
def test_keeps_the_contract(name, case):
    check_sharing(name, cases=[case])


VARIANTS = [
    ("hard", {"ratio": 0.0}),
    ("hard", {"ratio": 0.5}),
    ("flattened", {"condition": "shift", "ratio": 0.0}),
    ("output_space", {"labels": {"first": ["x"], "keys": ["x"]}, "ratio": 0.5}),
    ("soft_trace", {"norm": "tucker", "ratio": 0.5}),
    ("cross_stitch", {"ratio": 0.5}),
    ("sluice", {"ratio": 0.5, "n_subspaces": 1}),
    ("mmoe", {"ratio": 0.5, "expert_widths": (), "n_experts": 2}),
    ("cgc", {"ratio": 0.5, "n_private": 0}),
    ("cgc", {"ratio": 0.5, "n_shared": 0, "dropout": 0.2}),
    ("ple", {"ratio": 0.5, "n_levels": 3}),
    ("ple", {"n_private": 0}),
    ("ple", {"n_shared": 0}),
    ("dselect_k", {"n_experts": 3, "ratio": 0.5, "per_row": False}),
    ("branched", {"n_branches": 2, "ratio": 0.5}),
    ("residual_adapters", {"bottleneck": 0, "freeze": True}),
    ("residual_adapters", {"bottleneck": 4, "adapted": ["keys"]}),
    ("lora", {"rank": 2, "freeze": True}),
    ("lora", {"rank": 0}),
    ("esmm", {"chain": ["keys", "first"], "tower_widths": ()}),
    ("aitm", {"chain": ["keys", "first"]}),
    ("task_graph", {"reads": "output"}),
    ("task_graph", {"reads": "output", "detach": True}),
    ("task_graph", {"detach": True, "parents": {"first": ["keys", "second.part"]}}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{n}-{'-'.join(o)}" for n, o in VARIANTS])
def test_options_keep_the_contract(name, options):
    check_sharing(name, options=options, cases=["mlp", "cnn_two_sources"])


class Leaky(registry.load("hard")):
    """Says that it reaches less than it does."""

    def reached_by(self, task):
        return list(self.trunk.parameters())[1:]


class Sums(registry.load("mtan")):
    """Says that its private part lies above the features; it does not."""

    interleaved = False


@pytest.mark.parametrize(("cls", "message"), [(Leaky, "does not declare"), (Sums, "private parameter lies below")])
def test_a_broken_one_is_found(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_sharing(cls, cases=["mlp"])
