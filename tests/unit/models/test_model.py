"""The whole network: views, heads, specification, corruption, and what it tells the balancer."""

import json

import pytest
import torch

from polytask.balancing import registry as balancers
from polytask.balancing.backward import balanced_backward
from polytask.errors import RecipeError
from polytask.models.building import build_model
from polytask.models.corruption import Corruption
from polytask.models.heads import Heads
from polytask.models.inputs import Field, InputShape
from polytask.models.sharing import registry as sharings
from polytask.models.spec import ModelSpec

MIXED = InputShape({"numeric": Field((4,)), "categorical": Field((2,), (3, 5))})


def rows(n=6):
    g = torch.Generator().manual_seed(0)
    return {"numeric": torch.randn(n, 4, generator=g), "categorical": torch.randint(0, 3, (n, 2), generator=g)}


def spec(**changes):
    base = {
        "inputs": {"main": MIXED},
        "n_outputs": {"a": 1, "b": 3, "c.d": 2},
        "encoder": "tabular",
        "encoder_options": {"width": 8, "n_blocks": 1, "dropout": 0.0},
    }
    return ModelSpec(**{**base, **changes})


VIEWS = {"a": {"main": {"numeric": (0, 2), "categorical": ()}}, "b": {"main": {"numeric": (), "categorical": (1,)}}}


@pytest.mark.parametrize("name", sharings.names())
def test_a_spec_survives_json_and_builds_the_same_network(name):
    chosen = spec(
        sharing=name,
        n_outputs={"a": 1, "b": 1, "c": 1},
        head_hidden=(5,),
        head_hidden_of={"c": (5,)},
        corruptions={"c": Corruption("zero", 0.5)},
    )
    again = ModelSpec.from_json(json.loads(json.dumps(chosen.to_json())))
    assert again.to_json() == chosen.to_json()
    first, second = build_model(chosen), build_model(again)
    second.load_state_dict(first.state_dict())
    first.eval(), second.eval()
    for task, out in first(rows()).items():
        assert torch.equal(out, second(rows())[task])


def test_a_spec_without_the_newer_fields_still_loads():
    old = {k: v for k, v in spec().to_json().items() if k not in ("head_hidden_of", "corruptions", "links")}
    assert ModelSpec.from_json(old).corruptions == {}


def test_the_module_is_not_in_the_json():
    assert (
        "module"
        not in spec(encoder="module", encoder_options={"module": torch.nn.Linear(1, 1)}).to_json()["encoder_options"]
    )


def test_tasks_read_their_own_inputs():
    model = build_model(spec(views=VIEWS)).eval()
    before = model(rows())
    changed = rows()
    changed["numeric"][:, [1, 3]] += 5
    changed["categorical"][:, 0] = 2 - changed["categorical"][:, 0]
    after = model(changed)
    assert torch.equal(before["a"], after["a"])
    assert torch.equal(before["b"], after["b"])
    assert not torch.allclose(before["c.d"], after["c.d"])
    for column, moves in ((0, True), (2, True)):
        changed = rows()
        changed["numeric"][:, column] += 5
        assert torch.allclose(before["a"], model(changed)["a"]) is not moves
    alone = model(rows(), ["b"])
    assert list(alone) == ["b"]
    assert torch.allclose(alone["b"], before["b"], atol=1e-6)


def test_views_of_equal_columns_run_together(monkeypatch):
    model = build_model(spec(views={"a": VIEWS["a"], "b": VIEWS["a"]}))
    asked = []
    shared = model.sharing.shared
    monkeypatch.setattr(
        model.sharing, "shared", lambda x, tasks, source: asked.append(list(tasks)) or shared(x, tasks, source)
    )
    features, outputs = model.features_and_outputs(rows())
    assert asked == [["a", "b"], ["c.d"]]
    assert features["a"] is features["b"]
    assert set(features) == set(outputs) == {"a", "b", "c.d"}


def test_a_task_that_reads_nothing_is_refused():
    with pytest.raises(RecipeError, match="reads no input"):
        build_model(spec(views={"a": {"main": {"numeric": (), "categorical": ()}}}))


@pytest.mark.parametrize("name", sharings.names())
def test_views_with_every_sharing(name):
    model = build_model(spec(sharing=name, n_outputs={"a": 1, "b": 1, "c": 1}, views=VIEWS))
    outputs = model(rows())
    assert {task: tuple(out.shape) for task, out in outputs.items()} == dict.fromkeys("abc", (6, 1))
    torch.stack([out.sum() for out in outputs.values()]).sum().backward()


def test_heads_with_hidden_layers_and_first_outputs():
    heads = Heads(4, {"a": 1, "b": 2}, {"b": (7, 3)})
    assert [tuple(p.shape) for p in heads.reached_by("a")] == [(1, 4), (1,)]
    assert [tuple(p.shape) for p in heads.reached_by("b")] == [(7, 4), (7,), (3, 7), (3,), (2, 3), (2,)]
    heads.start_at({"a": torch.tensor([2.0]), "b": torch.tensor([-1.0, 1.0])})
    out = heads({"b": torch.zeros(3, 4), "a": torch.zeros(3, 4)})
    assert out["a"].tolist() == [[2.0]] * 3
    assert heads.by_task["b"][-1].bias.tolist() == [-1.0, 1.0]
    assert [tuple(p.shape) for p in Heads(4, {"a": 1}, (5,)).reached_by("a")] == [(5, 4), (5,), (1, 5), (1,)]


@pytest.mark.parametrize("name", sharings.names())
@pytest.mark.parametrize("method", ["equal", "nash_mtl"])
def test_the_balancer_gets_the_gradients_that_autograd_gives(name, method):
    """With every sharing the engine's rows are the tasks' gradients, and each own parameter gets its own task's."""
    torch.manual_seed(0)
    # Shared below for those that otherwise share nothing but a penalty.
    options = {"ratio": 0.5} if name.startswith("soft") else {}
    # The same forward pass twice: no cooling between.
    options |= {"decay": 1.0} if name == "branched" else {}
    model = build_model(spec(sharing=name, sharing_options=options, n_outputs={"a": 1, "b": 1, "c": 1})).double()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, dtype=p.dtype)
    x = {"numeric": rows()["numeric"].double(), "categorical": rows()["categorical"]}

    def losses():
        torch.manual_seed(1)
        features, outputs = model.features_and_outputs(x)
        return features, {task: (out - 1).square().mean() for task, out in outputs.items()}

    shared = model.shared_parameters()
    named = {id(p): n for n, p in model.named_parameters()}
    _, plain = losses()
    rows_of = [torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True) for loss in plain.values()]
    flat = torch.stack(
        [
            torch.cat(
                [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(shared, r, strict=True)]
            )
            for r in rows_of
        ]
    )
    own = {}
    for task, loss in plain.items():
        mine = [p for p in model.reached_by(task) if not any(p is s for s in shared)]
        grads = torch.autograd.grad(loss, mine, retain_graph=True, allow_unused=True) if mine else ()
        own |= {id(p): g for p, g in zip(mine, grads, strict=True)}
    features, again = losses()
    balancer = balancers.create(method)
    outcome = balanced_backward(again, shared, features, balancer=balancer)
    if outcome.gramian is not None:
        assert torch.allclose(outcome.gramian, flat @ flat.T, rtol=1e-8, atol=1e-12)
    expected = outcome.weights @ flat
    got = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in shared])
    assert torch.allclose(got, expected, rtol=1e-8, atol=1e-12)
    for p in model.parameters():
        if id(p) in own and own[id(p)] is not None:
            assert p.grad is not None, f"{named[id(p)]} got no gradient"
            assert torch.allclose(p.grad, own[id(p)], rtol=1e-8, atol=1e-12), named[id(p)]


def test_one_task_gives_every_balancer_something_to_weigh():
    model = build_model(spec(n_outputs={"a": 1}))
    features, outputs = model.features_and_outputs(rows())
    loss = outputs["a"].square().mean()
    expected = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    balanced_backward({"a": loss}, model.shared_parameters(), features, balancer=balancers.create("mgda"))
    for p, g in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, atol=1e-6)


def test_nothing_shared_means_no_features():
    model = build_model(spec(sharing_options={"ratio": 0.0}))
    features, _ = model.features_and_outputs(rows())
    assert features == {}
    assert model.shared_parameters() == []


@pytest.mark.parametrize("way", ["swap", "zero", "noise"])
def test_a_task_that_reads_spoiled_rows_leaves_the_others_alone(way):
    chosen = spec(corruptions={"c.d": Corruption(way, 0.5)})
    model = build_model(chosen).train()
    clean = build_model(chosen).eval()
    clean.load_state_dict(model.state_dict())
    original = rows()
    features, outputs = model.features_and_outputs(original)
    assert all(torch.equal(original[k], v) for k, v in rows().items()), "the batch itself is left as it is"
    for task in ("a", "b"):
        assert torch.allclose(outputs[task], clean(rows())[task], atol=1e-6)
    assert not torch.allclose(outputs["c.d"], clean(rows())["c.d"])
    assert features["a"] is features["b"]
    assert features["c.d"] is not features["a"]
    model.eval()
    assert torch.allclose(model(rows())["c.d"], clean(rows())["c.d"], atol=1e-6)


def test_corruption_spoils_the_share_that_was_asked():
    x = torch.randn(2000, 10)
    assert (Corruption("zero", 0.3)(x) == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (Corruption("swap", 0.3)(x) != x).double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (Corruption("noise", 0.5)(x) - x).std().item() == pytest.approx(0.5, abs=0.02)
    codes = torch.randint(0, 9, (2000, 2))
    assert torch.equal(Corruption("zero", 0.9)(codes), codes)
    swapped = Corruption("swap", 1.0)(codes)
    assert torch.equal(swapped.sort(0).values, codes.sort(0).values), "values come from the same column"
    with pytest.raises(RecipeError, match="swap, zero and noise"):
        Corruption("blur")
    with pytest.raises(RecipeError, match="between 0 and 1"):
        Corruption("swap", 1.5)


@pytest.mark.parametrize("n_members", [1, 3])
def test_very_many_heads_as_one_layer_give_the_same_outputs_and_gradients(n_members):
    torch.manual_seed(0)
    sizes = {f"t{i}": 1 + i % 3 for i in range(20)}
    heads, x = Heads(5, sizes, (), n_members), torch.randn(4 * n_members, 5, requires_grad=True)

    def run(together: bool) -> tuple[dict, list]:
        heads.together = together
        outputs = heads(dict.fromkeys(sizes, x))
        total = sum((out * (i + 1)).square().sum() for i, out in enumerate(outputs.values()))
        return outputs, torch.autograd.grad(total, [x, *heads.parameters()])

    (apart, apart_grads), (one, one_grads) = run(False), run(True)
    assert list(one) == list(apart)
    for expected, found in zip([*apart.values(), *apart_grads], [*one.values(), *one_grads], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    other = {**dict.fromkeys(sizes, x), "t3": x * 2}
    torch.testing.assert_close(heads(other)["t3"], heads.by_task["t3"](x * 2))
