"""The ensemble encoder: its layers, its members among the rows, their losses and their mean answer."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from polytask import Recipe
from polytask.data.batch import Batch
from polytask.data.sources import array_source
from polytask.errors import RecipeError, UnknownNameError
from polytask.models.building import build_model
from polytask.models.encoders.tabm import EnsembleLinear, TabM
from polytask.models.encoders.tabular import FieldsEmbedding
from polytask.models.inputs import Field, InputShape
from polytask.models.sharing import registry as sharings
from polytask.models.spec import ModelSpec
from polytask.tasks import Binary, Count, Multiclass, Ordinal, Regression
from polytask.tasks.members import mean_answer
from polytask.training.objective import Objective

SHAPE = InputShape({"numeric": Field((3,)), "categorical": Field((2,), (4, 9))})


def rows(n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {"numeric": torch.randn(n, 3, generator=g), "categorical": torch.randint(0, 4, (n, 2), generator=g)}


def network(sharing="hard", tasks=("a", "b"), links=None, encoder_options=None, **options):
    spec = ModelSpec(
        {"main": SHAPE},
        dict.fromkeys(tasks, 1),
        encoder="tabm",
        encoder_options={"k": 4, "width": 8, "dropout": 0.0, **(encoder_options or {})},
        sharing=sharing,
        sharing_options=options,
        links=links or {},
    )
    torch.manual_seed(0)
    return build_model(spec)


def scramble(module):
    """Away from the start, where all factors are 1."""
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.3 * torch.randn(p.shape, generator=g)


def test_one_member_with_unit_factors_is_a_plain_perceptron():
    encoder = TabM({"main": SHAPE}, k=1, width=8, n_blocks=3, dropout=0.0)
    first, *above = [part for part in encoder.modules() if isinstance(part, EnsembleLinear)]
    torch.nn.init.ones_(first.r)
    embedding = next(part for part in encoder.modules() if isinstance(part, FieldsEmbedding))
    x = rows()
    expected = embedding(x)
    for layer in (first, *above):
        expected = F.linear(expected, layer.dense.weight, layer.bias[0]).relu()
    assert len(above) == 2
    torch.testing.assert_close(encoder(x), expected)


@pytest.mark.parametrize("mini", [False, True])
def test_each_member_is_a_network_of_its_own_with_the_factors_multiplied_in(mini):
    model = network(encoder_options={"n_blocks": 2, "mini": mini}).train()
    scramble(model)
    stem, block = model.sharing.trunk
    first = stem.by_source["main"]
    x = rows()
    out = model(x)["b"]
    assert out.shape == (6, 4, 1)
    for j in range(4):
        h = first.embedding(x)
        for layer in (first.dense, block[0]):
            if isinstance(layer, EnsembleLinear):
                weight = layer.s[j][:, None] * layer.dense.weight * layer.r[j]
                h = F.linear(h, weight, layer.bias[j]).relu()
            elif isinstance(layer, torch.nn.Linear):
                h = layer(h).relu()
            else:
                h = F.linear(h, layer.dense.weight * layer.r[j], layer.dense.bias).relu()
        head = model.heads.by_task["b"]
        torch.testing.assert_close(out[:, j], h @ head.weight[j] + head.bias[j])


def test_members_differ_from_the_start_by_one_factor_a_column():
    encoder = TabM({"main": SHAPE}, k=5, numeric_embedding="periodic", embedding_width=7)
    layer = next(part for part in encoder.modules() if isinstance(part, EnsembleLinear))
    assert layer.chunks == (7, 7, 7, 3, 5)
    for piece in layer.r.split(layer.chunks, dim=1):
        assert torch.equal(piece, piece[:, :1].expand_as(piece))
    assert len(torch.unique(layer.r)) == 25
    assert torch.equal(layer.bias, layer.bias[:1].expand_as(layer.bias))


def test_gradients_are_those_of_finite_differences():
    layer = EnsembleLinear(3, 2, 2).double()
    scramble(layer)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    parameters = (layer.r, layer.s, layer.bias, layer.dense.weight)

    def run(x, *parameters):
        names = ("r", "s", "bias", "dense.weight")
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters))


def binary(labels):
    task = Binary(name="a")
    task.fit(labels)
    return task


def test_the_loss_is_the_mean_of_the_members_losses_over_the_observed_labels():
    labels = np.array([0.0, 1.0, np.nan, 1.0, np.nan])
    task = binary(labels)
    targets, observed = task.encode(labels)
    source = array_source("main", np.zeros((5, 1), np.float32), {"a": labels}, [task])
    outputs = torch.randn(5, 3, 1)
    batch = Batch(
        inputs=torch.zeros(5, 1),
        targets={"a": torch.from_numpy(targets)},
        observed={"a": torch.from_numpy(observed)},
        source="main",
    )
    got = Objective([task], {"main": source}, 3)({"a": outputs}, batch)["a"]
    single = Objective([task], {"main": source})
    each = [single({"a": outputs[:, j]}, batch)["a"] for j in range(3)]
    torch.testing.assert_close(got, torch.stack(each).mean())


def test_row_weights_weigh_every_member_alike():
    labels = np.array([0.0, 1.0, 1.0])
    task = binary(labels)
    source = array_source("main", np.zeros((3, 1), np.float32), {"a": labels}, [task])
    weights = torch.tensor([1.0, 0.0, 4.0])
    batch = Batch(
        inputs=torch.zeros(3, 1),
        targets={"a": torch.from_numpy(labels).float()},
        observed={"a": torch.ones(3, dtype=torch.bool)},
        source="main",
        row_weights=weights,
    )
    outputs = torch.randn(3, 2, 1)
    got = Objective([task], {"main": source}, 2)({"a": outputs}, batch)["a"]
    by_hand = F.binary_cross_entropy_with_logits(
        outputs.squeeze(-1), batch.targets["a"][:, None].expand(3, 2), reduction="none"
    )
    torch.testing.assert_close(got, (by_hand * weights[:, None]).mean())


def fitted_tasks():
    made = [
        (Regression(name="x"), np.array([1.0, 5.0, 9.0])),
        (Count(name="x"), np.array([0.0, 2.0, 7.0])),
        (Binary(name="x"), np.array([0, 1, 1])),
        (Multiclass(name="x"), np.array(["u", "v", "w", "v"])),
        (Ordinal(name="x"), np.array([1, 2, 3, 4])),
    ]
    for task, labels in made:
        task.fit(labels)
    return [task for task, _ in made]


@pytest.mark.parametrize("task", fitted_tasks(), ids=lambda task: task.kind)
def test_the_mean_answer_is_the_mean_of_what_users_see(task):
    outputs = 2 * torch.randn(7, 5, task.n_outputs, dtype=torch.float64)
    mean = task.decode(mean_answer(outputs, task.link))
    answers = [task.decode(outputs[:, j]) for j in range(5)]
    if task.has_probabilities:
        np.testing.assert_allclose(mean.probabilities, np.mean([a.probabilities for a in answers], axis=0), rtol=1e-9)
    else:
        np.testing.assert_allclose(mean.values, np.mean([a.values for a in answers], axis=0), rtol=1e-9)


@pytest.mark.parametrize("link", ["identity", "log", "logit", "softmax", "steps"])
def test_the_mean_of_equal_members_is_the_member_and_extremes_stay_finite(link):
    outputs = torch.randn(4, 3)
    one = outputs.log_softmax(-1) if link == "softmax" else outputs
    torch.testing.assert_close(mean_answer(one[:, None].expand(4, 6, 3), link), one)
    extreme = torch.tensor([[[-300.0, 300.0], [-200.0, 250.0]]], requires_grad=True)
    mean = mean_answer(extreme, link)
    assert bool(mean.isfinite().all())
    (gradient,) = torch.autograd.grad(mean.sum(), extreme)
    assert bool(gradient.isfinite().all())


def test_an_unknown_link_is_named():
    with pytest.raises(UnknownNameError, match="logit"):
        mean_answer(torch.zeros(1, 1, 1), "logits")


@pytest.mark.parametrize("name", sharings.names())
def test_every_way_of_sharing_takes_members(name):
    model = network(name, ("a", "b", "c")).train()
    x = rows()
    outputs = model(x)
    assert all(out.shape == (6, 4, 1) for out in outputs.values())
    torch.stack([out.square().mean() for out in outputs.values()]).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    model.eval()
    with torch.no_grad():
        everything = model(x)
        part = model({field: value[2:4] for field, value in x.items()})
    for task, out in everything.items():
        assert out.shape == (6, 1)
        torch.testing.assert_close(out[2:4], part[task])


def test_gates_without_a_trunk_are_refused():
    spec = ModelSpec(
        {"main": InputShape({"numeric": Field((3,))})},
        {"a": 1},
        encoder="tabm",
        sharing="mmoe",
        sharing_options={"ratio": 0.0},
    )
    with pytest.raises(RecipeError, match="Raise the ratio"):
        build_model(spec)


def test_evaluation_answers_with_the_mean_probability():
    model = network(links={"a": "logit"})
    scramble(model)
    x = rows()
    with torch.no_grad():
        members = model.train()(x)["a"]
        mean = model.eval()(x)
    torch.testing.assert_close(torch.sigmoid(mean["a"]), torch.sigmoid(members).mean(1))


def test_it_exports_with_a_batch_of_any_size():
    model = network(links={"a": "logit", "b": "steps"}).eval()

    class Outputs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, inputs):
            return tuple(self.model(inputs, source="main").values())

    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(
        Outputs(), (rows(),), dynamic_shapes=({"numeric": {0: batch}, "categorical": {0: batch}},)
    ).module()
    for got, expected in zip(exported(rows(9, 1)), model(rows(9, 1), source="main").values(), strict=True):
        torch.testing.assert_close(got, expected)


def test_members_vectors_do_not_decay():
    from polytask.balancing import registry as balancers
    from polytask.training.optimisation import Optimisation
    from polytask.training.settings import Settings

    model = network()
    groups = Optimisation(model, balancers.create("equal"), Settings(weight_decay=0.1), 1).optimiser.param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    layers = [part for part in model.modules() if isinstance(part, EnsembleLinear)]
    assert layers
    assert all(id(layer.dense.weight) in decayed for layer in layers)
    assert not any(id(p) in decayed for layer in layers for p in (layer.r, layer.s, layer.bias))


@pytest.mark.parametrize("options", [{"k": 0}, {"n_blocks": 0}])
def test_no_member_or_no_layer_is_refused(options):
    with pytest.raises(RecipeError, match="at least one"):
        TabM({"main": SHAPE}, **options)


def test_a_run_with_missing_labels_learns_and_its_bundle_answers_as_the_run(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    table = {f"x{i}": x[:, i] for i in range(4)}
    table["y"] = x[:, 0] + x[:, 1] + 0.1 * rng.normal(size=300)
    table["c"] = np.where(rng.random(300) < 0.6, np.nan, (x[:, 0] > 0).astype(float))
    recipe = Recipe(
        tasks={"y": {"kind": "regression"}, "c": {"kind": "binary"}},
        encoder={"name": "tabm", "k": 4, "width": 32},
        training={"epochs": 40, "learning_rate": 5e-3, "batch_size": 64},
    )
    run = recipe.run(table, out=tmp_path / "run")
    errors = {name: task.metrics["relative_error"] for name, task in run.record.tasks.items()}
    assert errors["y"] < 0.3
    assert errors["c"] < 0.7
    from polytask.bundle import load

    again = load(run.path).predict(table)
    assert np.array_equal(again["c"].probabilities, run.predict(table)["c"].probabilities)
    assert again["y"].values.shape == (300,)
