"""Where two ways of sharing coincide, they compute the same function: with the same parameters, in float64."""

import copy

import pytest
import torch
from torch import nn

from polytask.models.encoders import registry as encoders
from polytask.models.inputs import InputShape
from polytask.models.sharing import registry

TASKS = ["a", "b", "c"]
WIDTHS = (9, 8, 6)


@pytest.fixture(autouse=True)
def _float64():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(name, tasks=TASKS, widths=WIDTHS, encoder="mlp", shape=(5,), **options):
    kwargs = {"widths": widths} if encoder == "mlp" else {}
    made = encoders.create(encoder, {"main": InputShape.of(torch.zeros(1, *shape))}, **kwargs)
    return registry.create(name, made, tasks, **options)


def rows(n=7):
    return torch.randn(n, 5)


def plain_mlp(weights, biases, x):
    """The oracle: dense layers with ReLU, written out."""
    for w, b in zip(weights, biases, strict=True):
        x = (x @ w.T + b).clamp_min(0)
    return x


def tower_of(copies, index):
    """Weights of one copy in a list of stacked stages."""
    stacked = [
        part for module in copies for part in module.modules() if hasattr(part, "weight") and part.weight.ndim == 3
    ]
    return [p.weight[index] for p in stacked], [p.bias[index] for p in stacked]


def test_mmoe_with_one_expert_is_hard_sharing():
    mmoe = build("mmoe", n_experts=1, ratio=1 / 3, expert_widths=())
    x = rows()
    weights, biases = tower_of([mmoe.experts], 0)
    first = mmoe.trunk[0].after[0]
    expected = plain_mlp([first.weight, *weights], [first.bias, *biases], x)
    for h in mmoe(x).values():
        assert torch.allclose(h, expected, atol=1e-14)
    hard = build("hard")
    stages = [stage.after if hasattr(stage, "after") else stage for stage in hard.trunk]
    with torch.no_grad():
        for stage, w, b in zip(stages, [first.weight, *weights], [first.bias, *biases], strict=True):
            stage[0].weight.copy_(w)
            stage[0].bias.copy_(b)
    for task, h in hard(x).items():
        assert torch.allclose(h, mmoe(x)[task], atol=1e-14)


def test_mmoe_is_the_gated_sum_of_its_experts():
    mmoe = build("mmoe", n_experts=4, ratio=0.0, expert_widths=(3,))
    x = rows()
    out = mmoe(x)
    experts = torch.stack([plain_mlp(*tower_of([mmoe.experts], e), x) for e in range(4)])
    for task in TASKS:
        gate = mmoe.gates[task].linear
        g = torch.softmax(x @ gate.weight.T + gate.bias, dim=1)
        expected = sum(g[:, e : e + 1] * experts[e] for e in range(4))
        assert torch.allclose(out[task], expected, atol=1e-14)
        used = list(mmoe.gate_use()[task].values())
        assert used == pytest.approx(g.mean(0).tolist())


def test_cross_stitch_with_identity_is_independent_networks():
    stitch = build("cross_stitch", own_weight=1.0)
    x = rows()
    out = stitch(x)
    for index, task in enumerate(TASKS):
        assert torch.allclose(out[task], plain_mlp(*tower_of(stitch.towers, index), x), atol=1e-14)
    grads = torch.autograd.grad(out["a"].sum(), list(stitch.towers.parameters()))
    assert all(bool((g[1:] == 0).all()) for g in grads), "another task's tower got a gradient"
    assert any(bool((g[0] != 0).any()) for g in grads)


def test_cross_stitch_mixes_as_written():
    stitch = build("cross_stitch", ["a", "b"], widths=(4, 3), own_weight=0.7)
    x = rows()
    (w0, w1), (b0, b1) = tower_of(stitch.towers, 0)
    (v0, v1), (c0, c1) = tower_of(stitch.towers, 1)
    h, k = plain_mlp([w0], [b0], x), plain_mlp([v0], [c0], x)
    h, k = 0.7 * h + 0.3 * k, 0.3 * h + 0.7 * k
    h, k = plain_mlp([w1], [b1], h), plain_mlp([v1], [c1], k)
    assert torch.allclose(stitch(x)["b"], 0.3 * h + 0.7 * k, atol=1e-14)


def test_sluice_with_one_subspace_is_cross_stitch():
    options = {"own_weight": 0.8}
    stitch = build("cross_stitch", **options)
    sluice = build("sluice", n_subspaces=1, last_weight=1.0, orthogonality=0.0, **options)
    with torch.no_grad():
        for mine, theirs in zip(sluice.towers.parameters(), stitch.towers.parameters(), strict=True):
            mine.copy_(theirs)
    x = rows()
    for task in TASKS:
        assert torch.allclose(sluice(x)[task], stitch(x)[task], atol=1e-14)
    assert sluice.penalty() is None


def test_sluice_cuts_layers_and_mixes_layers():
    sluice = build("sluice", ["a", "b"], widths=(4, 4), n_subspaces=2, last_weight=0.6, orthogonality=0.5)
    with torch.no_grad():
        for p in [*sluice.stitches, *(r.weight for r in sluice.last.children())]:
            p.copy_(torch.randn(p.shape))
    x = rows(3)
    layers = [torch.stack([plain_mlp(*[part[:1] for part in tower_of(sluice.towers[:1], t)], x) for t in range(2)])]
    alpha = sluice.stitches[0]

    def mixed(alpha, h):
        out = torch.zeros_like(h)
        for t in range(2):
            for g in range(2):
                for s in range(2):
                    for k in range(2):
                        out[t, :, 2 * g : 2 * g + 2] += alpha[2 * t + g, 2 * s + k] * h[s, :, 2 * k : 2 * k + 2]
        return out

    first = mixed(alpha, layers[0])
    second = torch.stack([plain_mlp(*tower_of(sluice.towers[1:], t), first[t]) for t in range(2)])
    last = torch.cat([sluice.last[task].weight for task in ("a", "b")])
    second = mixed(last, second)
    assert torch.allclose(sluice(x)["b"], 0.4 * first[1] + 0.6 * second[1], atol=1e-13)
    overlap = sum(
        (w[:2] @ w[2:].T).square().sum() for stage in sluice.towers for t in range(2) for w in tower_of([stage], t)[0]
    )
    assert sluice.penalty().item() == pytest.approx(0.5 * overlap.item())


@pytest.mark.parametrize("name", ["cgc", "ple"])
def test_no_shared_expert_is_independent(name):
    x = rows()
    made = build(name, n_shared=0, n_private=2, ratio=0.0, expert_widths=(4,))
    assert made.shared_parameters() == []
    own = {id(p) for p in made.reached_by("a")}
    before = {task: h.detach() for task, h in made(x).items()}
    with torch.no_grad():
        for p in made.parameters():
            if id(p) not in own:
                p.add_(1.0)
    after = made(x)
    assert torch.equal(after["a"], before["a"])
    assert not torch.allclose(after["b"], before["b"])


def test_cgc_is_the_gated_sum_of_own_and_shared_experts():
    cgc = build("cgc", n_shared=2, n_private=1, ratio=0.0, widths=(4,), expert_widths=())
    x = rows()
    for task in TASKS:
        gate = cgc.level.gates[task].linear
        g = torch.softmax(x @ gate.weight.T + gate.bias, dim=1)
        own = plain_mlp(*tower_of([cgc.level.own[task]], 0), x)
        shared = [plain_mlp(*tower_of([cgc.level.common], e), x) for e in range(2)]
        expected = g[:, :1] * own + g[:, 1:2] * shared[0] + g[:, 2:] * shared[1]
        assert torch.allclose(cgc(x)[task], expected, atol=1e-14)


def test_ple_of_one_level_is_cgc():
    options = {"n_shared": 2, "n_private": 1, "ratio": 1 / 3, "expert_widths": (4,)}
    cgc, ple = build("cgc", **options), build("ple", n_levels=1, **options)
    with torch.no_grad():
        for mine, theirs in zip(ple.parameters(), cgc.parameters(), strict=True):
            mine.copy_(theirs)
    x = rows()
    for task in TASKS:
        assert torch.allclose(ple(x)[task], cgc(x)[task], atol=1e-14)


def test_ple_shared_gate_mixes_all_experts():
    ple = build("ple", ["a", "b"], n_levels=2, n_shared=1, n_private=1, ratio=0.0, widths=(4,), expert_widths=(3,))
    x = rows()
    low, high = ple.levels

    def softmax(gate, read):
        return torch.softmax(read @ gate.linear.weight.T + gate.linear.bias, dim=1)

    def expert(copies, read):
        return plain_mlp(*tower_of([copies], 0), read)

    own = {t: expert(low.own[t], x) for t in "ab"}
    common = expert(low.common, x)
    xt = {t: (softmax(low.gates[t], x).unsqueeze(2) * torch.stack([own[t], common], 1)).sum(1) for t in "ab"}
    everything = torch.stack([own["a"], own["b"], common], 1)
    xs = (softmax(low.shared_gate, x).unsqueeze(2) * everything).sum(1)
    for t in "ab":
        pair = torch.stack([expert(high.own[t], xt[t]), expert(high.common, xs)], 1)
        assert torch.allclose(ple(x)[t], (softmax(high.gates[t], xt[t]).unsqueeze(2) * pair).sum(1), atol=1e-14)


def test_dselect_k_of_all_experts_can_be_any_gate():
    """With k = E, each selector on an expert of its own, the mixture is MMoE's with the softmax of alpha as gate."""
    n = 4
    made = build("dselect_k", n_experts=n, k=n, per_row=False, ratio=0.0, widths=(6,), expert_widths=())
    x = rows()
    alpha = torch.randn(n)
    with torch.no_grad():
        for task in TASKS:
            gate = made.gates[task]
            for j in range(n):
                gate.codes[j] = torch.tensor([1.0 if j >> bit & 1 else -1.0 for bit in range(gate.m)])
            gate.alpha.copy_(alpha)
    experts = [plain_mlp(*tower_of([made.experts], e), x) for e in range(n)]
    expected = sum(w * e for w, e in zip(alpha.softmax(0), experts, strict=True))
    for h in made(x).values():
        assert torch.allclose(h, expected, atol=1e-14)
    made.train()(x)
    assert made.penalty().item() == pytest.approx(0.0, abs=1e-9), "settled selectors have no entropy"


@pytest.mark.parametrize("n_experts", [2, 3, 5, 8])
def test_dselect_k_codes_are_probabilities(n_experts):
    made = build("dselect_k", n_experts=n_experts, k=2, ratio=1.0, expert_widths=(3,))
    made.train()(rows())
    for used in made.gate_use().values():
        assert sum(used.values()) == pytest.approx(1.0)
    selectors = made.gates["a"]
    choices, _ = selectors._choices(made._read[1])
    for i in range(n_experts):
        z = selectors.linear(made._read[1])[:, : 2 * selectors.m].unflatten(1, (2, selectors.m))
        s = ((z + 0.5).clamp(0, 1) ** 2) * (3 - 2 * (z + 0.5).clamp(0, 1))
        expected = torch.ones_like(s[..., 0])
        for bit in range(selectors.m):
            expected = expected * (s[..., bit] if i >> bit & 1 else 1 - s[..., bit])
        assert torch.allclose(choices[..., i], expected, atol=1e-14)


def test_lora_of_rank_zero_is_the_trunk():
    encoder = encoders.create("mlp", {"main": InputShape.of(torch.zeros(1, 5))}, widths=WIDTHS)
    alone = copy.deepcopy(encoder)
    made = registry.create("lora", encoder, TASKS, rank=0)
    x = rows()
    assert all(torch.equal(h, alone(x)) for h in made(x).values())
    assert made.count_parameters()["private"] == 0


@pytest.mark.parametrize(("encoder", "shape"), [("mlp", (5,)), ("cnn", (1, 12, 12))])
def test_lora_changes_the_weights_by_its_product(encoder, shape):
    made = build("lora", encoder=encoder, shape=shape, rank=2, alpha=6.0)
    alone = encoders.create(
        encoder, {"main": InputShape.of(torch.zeros(1, *shape))}, **({"widths": WIDTHS} if encoder == "mlp" else {})
    )
    adapted = [m for m in made.trunk.modules() if hasattr(m, "changes")]
    plain = [m for m in alone.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    x = torch.randn(4, *shape)
    with torch.no_grad():
        for layer in adapted:
            for task in TASKS:
                layer.changes[task].up.normal_()
        for task in TASKS:
            for layer, p in zip(adapted, plain, strict=True):
                change = layer.changes[task]
                product = (change.up @ change.down.flatten(1)).view_as(p.weight)
                p.weight.copy_(layer.base.weight + 3.0 * product)
                p.bias.copy_(layer.base.bias)
            assert torch.allclose(made(x)[task], alone(x), atol=1e-12), task
            assert torch.allclose(made(x, [task])[task], alone(x), atol=1e-12), task


@pytest.mark.parametrize("name", ["lora", "residual_adapters"])
def test_a_frozen_trunk_stays(name):
    made = build(name, encoder="resnet18", shape=(1, 8, 8), freeze=True)
    trunk = [(n, t.clone()) for n, t in made.state_dict().items() if n.startswith("trunk") and "changes" not in n]
    x = torch.randn(4, 1, 8, 8)
    made.train()
    loss = sum(h.square().sum() for h in made(x).values())
    loss.backward()
    with torch.no_grad():
        for p in made.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    state = made.state_dict()
    assert all(torch.equal(state[n], before) for n, before in trunk)
    assert not any(p.requires_grad for p in made.shared_parameters()), "only what is frozen is reached by two tasks"
    assert all(any(p.grad.any() for p in made.reached_by(t) if p.requires_grad) for t in TASKS), "adapters are trained"


@pytest.mark.parametrize("bottleneck", [0, 3])
def test_residual_adapters_add_their_matrix(bottleneck):
    made = build("residual_adapters", widths=(4, 3), bottleneck=bottleneck)
    x = rows()
    with torch.no_grad():
        for p in made.adapters.parameters():
            p.normal_()
    stages = [made.trunk[0].after[0], made.trunk[1][0]]
    for task in TASKS:
        h = x
        for stage, adapter in zip(stages, made.adapters[task], strict=True):
            u = plain_mlp([stage.weight], [stage.bias], h)
            inner = u if not bottleneck else (u @ adapter.down.T).clamp_min(0)
            h = u + inner @ adapter.up.T
        assert torch.allclose(made(x)[task], h, atol=1e-13)


def test_flattened_without_condition_is_hard_sharing():
    made = build("flattened")
    alone = build("hard")
    with torch.no_grad():
        for p in made.conditions.parameters():
            p.zero_()
        for mine, theirs in zip(alone.trunk.parameters(), made.stages.parameters(), strict=True):
            mine.copy_(theirs)
    x = rows()
    for task in TASKS:
        assert torch.allclose(made(x)[task], alone(x)[task], atol=1e-14)


def test_branched_predicts_with_a_tree():
    made = build("branched", n_branches=2, widths=(4, 4)).eval()
    with torch.no_grad():
        made.choices[0].copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
        made.leaves["a"].weight.copy_(torch.tensor([1.0, 0.0]))
    x = rows()
    w, b = tower_of(made.levels[:1], 1)
    v, c = tower_of(made.levels[1:], 0)
    assert torch.allclose(made(x)["a"], plain_mlp([*w, *v], [*b, *c], x), atol=1e-14)
    assert made.parents()["level 2 branch 1"] == "level 1 branch 2"
    assert made.parents()["a"] == "level 2 branch 1"


def test_branched_choices_harden_as_it_cools():
    made = build("branched", n_branches=3, temperature=1.0, decay=0.5, min_temperature=1e-3).train()
    logits = torch.zeros(1000, 3)
    soft = made._choose(logits).amax(1).mean()
    for _ in range(20):
        made(rows())
    hard = made._choose(logits).amax(1).mean()
    assert soft < 0.8
    assert hard > 0.99
    shares = made._choose(torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)).argmax(1).bincount() / 20_000
    assert torch.allclose(shares, torch.tensor([0.0, 1.0, 2.0]).softmax(0), atol=0.015), (
        "Gumbel noise draws the softmax"
    )


def test_mtan_with_open_masks_is_hard_sharing():
    made = build("mtan")
    with torch.no_grad():
        for name, p in made.attention.named_parameters():
            if ".outer." in name:
                p.fill_(0.0 if name.endswith("weight") else 60.0)
    alone = build("hard")
    with torch.no_grad():
        for mine, theirs in zip(alone.trunk.parameters(), made.trunk.parameters(), strict=True):
            mine.copy_(theirs)
    x = rows()
    for task in TASKS:
        assert torch.allclose(made(x)[task], alone(x)[task], atol=1e-14)


def test_aitm_weighs_what_is_passed_on():
    made = build("aitm", ["a", "b"], widths=(4,), tower_widths=(3,))
    x = rows()
    h = made.trunk[0](x)
    q = {t: plain_mlp([made.towers[t][0].weight], [made.towers[t][0].bias], h) for t in "ab"}
    transfer = made.transfers["b"]
    p = plain_mlp([transfer.passed[0].weight], [transfer.passed[0].bias], q["a"])
    scores = torch.stack([(transfer.query(u) * transfer.key(u)).sum(1) / 3**0.5 for u in (p, q["b"])], 1)
    w = scores.exp() / scores.exp().sum(1, keepdim=True)
    expected = w[:, :1] * transfer.value(p) + w[:, 1:] * transfer.value(q["b"])
    assert torch.allclose(made(x)["a"], q["a"], atol=1e-14)
    assert torch.allclose(made(x)["b"], expected, atol=1e-14)
