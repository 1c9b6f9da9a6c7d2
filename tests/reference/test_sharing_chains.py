"""Chained tasks: probabilities of ESMM, and task graphs."""

import math

import pytest
import torch

from polytask.errors import RecipeError
from polytask.models.building import build_model
from polytask.models.inputs import InputShape
from polytask.models.sharing.esmm import log_odds_of_both
from polytask.models.spec import ModelSpec


def model(sharing, tasks, n_outputs=1, **options):
    torch.manual_seed(0)
    spec = ModelSpec(
        {"main": InputShape.of(torch.zeros(1, 4))},
        dict.fromkeys(tasks, n_outputs),
        sharing=sharing,
        encoder_options={"widths": (8,)},
        sharing_options=options,
    )
    return build_model(spec)


def test_product_of_probabilities_in_log_odds():
    a, b = torch.randn(2, 1000, dtype=torch.float64) * 5
    p = a.sigmoid() * b.sigmoid()
    assert torch.allclose(log_odds_of_both(a, b), torch.log(p / (1 - p)), atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conversion_is_never_likelier_than_click(dtype):
    values = torch.tensor([-1e4, -200.0, -90.0, -20.0, -1.0, 0.0, 1.0, 20.0, 90.0, 200.0, 1e4], dtype=dtype)
    a, b = torch.cartesian_prod(values, values).unbind(1)
    both = log_odds_of_both(a, b)
    assert bool(both.isfinite().all())
    assert bool((both <= a).all())
    assert bool((both <= b).all())
    assert bool((both.sigmoid() <= a.sigmoid()).all())


def test_gradient_of_the_product():
    a = torch.randn(50, dtype=torch.float64, requires_grad=True)
    b = torch.randn(50, dtype=torch.float64, requires_grad=True)
    y = (torch.arange(50) % 2).double()
    torch.nn.functional.binary_cross_entropy_with_logits(log_odds_of_both(a, b), y, reduction="sum").backward()
    pa, pb = a.detach().sigmoid(), b.detach().sigmoid()
    p = pa * pb
    by_p = -(y / p) + (1 - y) / (1 - p)
    assert torch.allclose(a.grad, by_p * p * (1 - pa), atol=1e-12)
    assert torch.allclose(b.grad, by_p * p * (1 - pb), atol=1e-12)


def test_esmm_chain_of_three():
    net = model("esmm", ["click", "cart", "buy", "time"], chain=["click", "cart", "buy"])
    x = torch.randn(200, 4)
    out = net(x)
    raw = net.heads(net.sharing(x))
    p = [raw[t].sigmoid() for t in ("click", "cart", "buy")]
    assert torch.allclose(out["buy"].sigmoid(), p[0] * p[1] * p[2], atol=1e-6)
    assert torch.allclose(out["cart"].sigmoid(), p[0] * p[1], atol=1e-6)
    assert torch.equal(out["time"], raw["time"])
    assert torch.allclose(net.sharing.conditional(out, "buy"), p[2], atol=1e-4)
    assert torch.allclose(net(x, ["buy"])["buy"], out["buy"], atol=1e-6)


def test_esmm_starts_at_the_rates():
    net = model("esmm", ["click", "buy"])
    rates = {"click": 0.2, "buy": 0.03}
    net.start_at({t: torch.tensor([math.log(r / (1 - r))]) for t, r in rates.items()})
    with torch.no_grad():
        for task in rates:
            net.heads.by_task[task].weight.zero_()
    out = net(torch.randn(3, 4))
    for task, rate in rates.items():
        assert out[task].sigmoid().flatten().tolist() == pytest.approx([rate] * 3, rel=1e-5)


def test_esmm_head_of_click_is_reached_by_both():
    net = model("esmm", ["click", "buy"])
    shared = {id(p) for p in net.shared_parameters()}
    assert all(id(p) in shared for p in net.heads.by_task["click"].parameters())
    assert not any(id(p) in shared for p in net.heads.by_task["buy"].parameters())
    features, _ = net.features_and_outputs(torch.randn(3, 4))
    assert features == {}, "no tensor separates shared from private"


def test_esmm_refuses_what_has_no_probability():
    with pytest.raises(RecipeError, match="one output"):
        model("esmm", ["click", "buy"], n_outputs=3)
    with pytest.raises(RecipeError, match="different tasks"):
        model("esmm", ["click", "buy"], chain=["click", "sale"])
    net = model("esmm", ["click", "price"])
    with pytest.raises(RecipeError, match=r"price.*regression"):
        net.sharing.check_kinds({"click": "binary", "price": "regression"})
    net.sharing.check_kinds({"click": "binary", "price": "binary"})


@pytest.mark.parametrize("reads", ["representation", "output"])
@pytest.mark.parametrize("detach", [False, True])
def test_task_graph_reads_its_parents(reads, detach):
    parents = {"c": ["a", "b"], "d": ["c"]}
    net = model("task_graph", ["d", "a", "c", "b"], parents=parents, reads=reads, detach=detach).double()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn(p.shape, dtype=p.dtype)
    x = torch.randn(5, 4, dtype=torch.float64)
    trunk = net.sharing.trunk[0](x)
    h, z = {}, {}
    for t in ("a", "b", "c", "d"):
        read = [h[p] for p in parents.get(t, [])] if reads == "representation" else []
        h[t] = net.sharing.towers[t](torch.cat([trunk, *read], 1))
        z[t] = net.heads.by_task[t](h[t])
        if reads == "output" and t in parents:
            z[t] = z[t] + net.sharing.readers[t](torch.cat([z[p] for p in parents[t]], 1))
    out = net(x)
    assert all(torch.allclose(out[t], z[t], atol=1e-12) for t in z)
    own = torch.autograd.grad(out["d"].sum(), list(net.sharing.towers["a"].parameters()), allow_unused=True)
    assert all(g is None or not g.any() for g in own) is detach


def test_task_graph_with_detached_output_reaches_only_itself():
    net = model("task_graph", ["a", "b"], reads="output", detach=True)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn(p.shape)
    out = net(torch.randn(5, 4), ["b"])["b"].sum()
    names = [n for n, _ in net.named_parameters()]
    grads = torch.autograd.grad(out, list(net.parameters()), allow_unused=True)
    got = {n for n, g in zip(names, grads, strict=True) if g is not None and g.any()}
    by_id = {id(p): n for n, p in net.named_parameters()}
    assert got == {by_id[id(p)] for p in net.reached_by("b")}


def test_task_graph_refuses_cycles_and_strangers():
    with pytest.raises(RecipeError, match="no cycle"):
        model("task_graph", ["a", "b"], parents={"a": ["b"], "b": ["a"]})
    with pytest.raises(RecipeError, match="'z'"):
        model("task_graph", ["a", "b"], parents={"a": ["z"]})
