"""Lower precision, activations that are computed again, batches in pieces: what must stay the same does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from polytask import Recipe
from polytask.errors import RecipeError
from polytask.models.building import build_model
from polytask.models.inputs import Field, InputShape
from polytask.models.recompute import recomputed
from polytask.models.sharing import registry as sharings
from polytask.models.spec import ModelSpec
from polytask.training.interruption import Interrupted
from polytask.training.loop import Training
from polytask.training.passes import Passes


def table(n: int = 90) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4))
    made = pd.DataFrame(x, columns=list("abcd"))
    made["price"] = np.where(rng.random(n) < 0.4, np.nan, x @ [1.0, -1.0, 0.5, 0.0] + rng.normal(size=n))
    made["ill"] = np.where(x[:, 0] + rng.normal(size=n) > 0, "yes", "no")
    return made


def run(balancer="nash_mtl", dropout=0.0, out=None, resume=False, encoder=None, sharing="hard", **train):
    recipe = Recipe(
        tasks={"price": "regression", "ill": "binary"},
        encoder=encoder or {"name": "mlp", "widths": [16, 12], "dropout": dropout},
        sharing=sharing,
        balancer=balancer,
        training={"epochs": 3, "batch_size": 20, "optimiser": "sgd", "learning_rate": 0.05, **train},
    )
    return recipe.run(table(), out=out, resume=resume)


def numbers(made) -> dict[str, torch.Tensor]:
    return made.bundle.models[0].model.state_dict()


def assert_equal(one, other) -> None:
    for name, value in numbers(one).items():
        assert torch.equal(value, numbers(other)[name]), name


def assert_near(one, other, tolerance: float) -> None:
    for name, value in numbers(one).items():
        assert (value - numbers(other)[name]).norm() <= tolerance * value.norm() + 1e-6, name


@pytest.mark.parametrize(
    ("balancer", "mode"), [("equal", "exact"), ("nash_mtl", "exact"), ("moco", "exact"), ("mgda", "features"),
                           ("famo", "exact"), ("pcgrad", "every_k"), ("upgrad", "sketch")]
)  # fmt: skip
def test_activations_computed_again_change_no_bit(balancer, mode):
    kept = run(balancer, dropout=0.4, mode=mode)
    again = run(balancer, dropout=0.4, mode=mode, recompute=True)
    assert_equal(kept, again)
    assert [line["train"] for line in kept.history] == [line["train"] for line in again.history]


@pytest.mark.parametrize("name", sharings.names())
def test_every_sharing_can_be_computed_again(name):
    """Three backward passes of one graph, as the engine makes them, with dropout below."""
    shape = InputShape({"x": Field((6,))})
    spec = ModelSpec({"d": shape}, {"a": 1, "b": 1}, "mlp", name, {"widths": (8, 8), "dropout": 0.3})
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for pieces in (0, 1):
        torch.manual_seed(0)
        model = build_model(spec).train()
        model.pieces = pieces
        _, outputs = model.features_and_outputs(x, source="d")
        losses = [output.square().mean() for output in outputs.values()]
        passes = [
            torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
            for loss in [*losses, sum(losses)]
        ]
        found.append([outputs["a"], *(torch.zeros(1) if g is None else g for grads in passes for g in grads)])
    for kept, again in zip(*found, strict=True):
        assert torch.equal(kept, again)


@pytest.mark.parametrize("encoder", ["resnet18", "cnn", "tabm", "tabular"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_encoders_computed_again(encoder, pieces):
    """Running statistics are those of the forward pass; in pieces the gradient is that of the batch, up to rounding."""
    image = encoder in ("resnet18", "cnn")
    shape = InputShape({"x": Field((1, 16, 16))}) if image else InputShape({"numeric": Field((5,))})
    small = {"resnet18": {"base": 4}}.get(encoder, {})
    x = torch.randn(8, *next(iter(shape.fields.values())).shape, generator=torch.Generator().manual_seed(0))
    inputs = x if image else {"numeric": x}
    models = [_seeded(ModelSpec({"d": shape}, {"a": 1, "b": 2}, encoder, "hard", small)) for _ in range(2)]
    models[1].pieces = pieces
    for model in models:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        _, outputs = model.features_and_outputs(inputs, source="d")
        sum(output.square().mean() for output in outputs.values()).backward()
    has_statistics = any(isinstance(m, nn.BatchNorm2d) for m in models[0].modules())
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        if pieces == 1:
            assert torch.equal(one.grad, other.grad), name
        elif not has_statistics:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    if pieces == 1:
        for one, other in zip(models[0].buffers(), models[1].buffers(), strict=True):
            assert torch.equal(one, other)


def _seeded(spec: ModelSpec):
    torch.manual_seed(0)
    return build_model(spec).train()


@pytest.mark.parametrize(
    ("balancer", "mode"), [("equal", "exact"), ("uncertainty", "exact"), ("nash_mtl", "exact"), ("graddrop", "exact"),
                           ("mgda", "features")]
)  # fmt: skip
@pytest.mark.parametrize("pieces", [2, 7])
def test_batches_in_pieces_are_the_batches(balancer, mode, pieces):
    assert_near(run(balancer, mode=mode), run(balancer, mode=mode, accumulate=pieces), 1e-4)


def test_pieces_keep_less_for_the_way_back():
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(8)))
    x = torch.randn(64, 64)

    def kept(run) -> int:
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run()
        return sum(held.values())

    assert kept(lambda: layers(x)) >= 8 * x.numel()
    assert kept(lambda: recomputed(layers, x, 4, layers)) <= 2 * x.numel()


@pytest.mark.parametrize("balancer", ["equal", "nash_mtl", "moco", "uncertainty"])
@pytest.mark.parametrize(("precision", "digits"), [("bf16", 8), ("fp16", 11)])
def test_lower_precision_is_near_full(monkeypatch, balancer, precision, digits):
    """A step sees the same problem up to the rounding of products, and moves to nearly the same place."""
    seen = []
    usual = Passes.__call__

    def call(self, *arguments):
        seen.append(usual(self, *arguments))
        return seen[-1]

    monkeypatch.setattr(Passes, "__call__", call)
    one_step = {"epochs": 1, "batch_size": 90}
    full, first = run(balancer, **one_step), seen[0]
    seen.clear()
    lower, rounded = run(balancer, precision=precision, **one_step), seen[0]
    error = 16 * 2.0**-digits  # a few roundings in each of two layers, there and back
    for name in ("losses", "gramian"):
        expected, found = getattr(first, name), getattr(rounded, name)
        assert expected is found is None or (found - expected).norm() <= error * expected.norm(), name
        assert expected is None or not torch.equal(expected, found)
    one, other = (torch.cat([value.flatten() for value in numbers(made).values()]) for made in (full, lower))
    assert (one - other).norm() <= error * one.norm()
    assert all(value.dtype == torch.float32 for value in numbers(lower).values())


@pytest.mark.parametrize("sharing", ["mmoe", "cross_stitch", "mtan", "lora"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_in_other_networks(sharing, precision):
    made = run(sharing=sharing, precision=precision, recompute=True, epochs=1)
    assert all(bool(value.isfinite().all()) for value in numbers(made).values())


def test_a_gradient_that_overflows_halves_the_scale_and_moves_nothing(monkeypatch):
    seen = []
    usual = Training.step

    def step(self, batches):
        scaler, before = self.optimisation.scaler, [p.detach().clone() for p in self.model.parameters()]
        if self.at.step == 1:
            scaler.update(2.0**40)
        scale = scaler.get_scale()
        usual(self, batches)
        moved = any(not torch.equal(p, q) for p, q in zip(self.model.parameters(), before, strict=True))
        seen.append((moved, scaler.get_scale() / scale))

    monkeypatch.setattr(Training, "step", step)
    made = run("equal", precision="fp16", clip_norm=1.0)
    assert seen[0] == (True, 1.0)
    assert seen[1] == (False, 0.5)
    assert all(bool(value.isfinite().all()) for value in numbers(made).values())


@pytest.mark.parametrize(
    "train", [{"recompute": True}, {"accumulate": 3}, {"precision": "bf16"}, {"precision": "fp16", "accumulate": 2}]
)
def test_interrupted_and_resumed_equals_the_whole_bit_for_bit(tmp_path, monkeypatch, train):
    whole = run("nash_mtl", dropout=0.5, **train)
    usual, steps = Training.step, []

    def step(self, batches):
        usual(self, batches)
        steps.append(1)
        if len(steps) == 4:
            self.interruption._asked.set()

    monkeypatch.setattr(Training, "step", step)
    with pytest.raises(Interrupted):
        run("nash_mtl", dropout=0.5, out=tmp_path / "run", **train)
    monkeypatch.setattr(Training, "step", usual)
    assert_equal(whole, run("nash_mtl", dropout=0.5, out=tmp_path / "run", resume=True, **train))


def test_what_cannot_work_is_refused():
    with pytest.raises(RecipeError, match="precision must be one of fp32, bf16, fp16"):
        run(precision="fp8")
    with pytest.raises(RecipeError, match="accumulate must be at least 1"):
        run(accumulate=0)
    for train in ({"recompute": True}, {"accumulate": 2}, {"precision": "bf16"}):
        with pytest.raises(RecipeError, match="'matrix_free' goes back through the backward pass"):
            run(mode="matrix_free", **train)
    with pytest.raises(RecipeError, match="has a penalty on rows"):
        run(sharing={"name": "dselect_k", "entropy": 0.1}, accumulate=2)
    remedied = Recipe(
        tasks={"price": "regression", "ill": "binary"},
        encoder="mlp",
        schedule={"name": "sequential", "remedies": ["ewc"]},
        training={"epochs": 1, "precision": "fp16"},
    )
    with pytest.raises(RecipeError, match="Remedies look at gradients as they are"):
        remedied.run(table())
