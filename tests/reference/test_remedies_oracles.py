"""Remedies, transfer and starts beside independent oracles."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from polytask.data.batch import ArraySource, Batch
from polytask.models.building import build_model
from polytask.models.inputs import Field, InputShape
from polytask.models.spec import ModelSpec
from polytask.tasks import Binary, Multiclass, Regression, Retrieval, Tagging
from polytask.training.remedies import AGEM, EWC, OnlineEWC, SynapticIntelligence
from polytask.training.remedies._fisher import fisher, reached
from polytask.training.remedies._memory import Memory, row_bytes
from polytask.training.remedies.learning_without_forgetting import LearningWithoutForgetting, distillation
from polytask.training.remedy import Scene
from polytask.training.schedule import Stage
from polytask.training.starts import lines_from, start_from
from polytask.training.transfer import transfer


def scene(n: int = 24, stage: tuple[str, ...] = ("kind",), learned: tuple[str, ...] = ()) -> Scene:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    kind, price = Multiclass(name="kind", weight=0.5), Regression(name="price")
    labels = torch.randint(3, (n,), generator=generator).numpy()
    kind.fit(labels)
    numbers = torch.randn(n, generator=generator).numpy().astype(float)
    price.fit(numbers)
    inputs = torch.randn(n, 4, generator=generator)
    encoded = {task.name: task.encode(values) for task, values in ((kind, labels), (price, numbers))}
    targets = {name: torch.from_numpy(pair[0]) for name, pair in encoded.items()}
    observed = {name: torch.from_numpy(pair[1]) for name, pair in encoded.items()}
    observed["kind"] = observed["kind"].clone()
    observed["kind"][::5] = False
    source = ArraySource("main", inputs, targets, observed)
    spec = ModelSpec({"main": InputShape({"x": Field((4,))})}, {"kind": 3, "price": 1},
                     encoder_options={"widths": (5, 4)}, links={"kind": "softmax", "price": "identity"})  # fmt: skip
    return Scene(build_model(spec), {"kind": kind, "price": price}, {"main": source}, Stage("s", stage), 1, learned)


def test_fisher_is_the_mean_of_squared_per_sample_gradients_in_float64():
    here = scene()
    parameters = reached(here)
    found = fisher(here, parameters, 1000)
    model = copy.deepcopy(here.model).double()
    everything = {name: p.detach() for name, p in model.named_parameters()}
    source = here.train["main"]
    rows = source.observed["kind"]

    def loss(named, x, y):
        logits = functional_call(model, {**everything, **named}, (x[None], ["kind"], "main"))["kind"]
        return -0.5 * functional.log_softmax(logits, -1)[0] @ y

    named = {name: everything[name] for name in parameters}
    x = source.inputs[rows].double()
    y = functional.one_hot(source.targets["kind"][rows].long(), 3).double()
    each = vmap(grad(loss), (None, 0, 0))(named, x, y)
    for name, value in found.items():
        torch.testing.assert_close(value.double(), each[name].square().mean(0), rtol=1e-4, atol=1e-8)
    assert not any("heads" in name for name in found)


def test_fisher_of_several_sources_is_the_sum_and_draws_without_replacement():
    here = scene()
    half = here.train["main"].take(torch.arange(12))
    two = Scene(here.model, here.tasks, {"main": here.train["main"]}, here.stage)
    parameters = reached(two)
    whole = fisher(two, parameters, 1000)
    alone = fisher(Scene(here.model, here.tasks, {"main": half}, here.stage), parameters, 1000)
    few = fisher(two, parameters, 5)
    assert all(torch.isfinite(value).all() for value in few.values())
    assert not all(torch.equal(whole[name], alone[name]) for name in whole)


def move(model, amount: float) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.add_(amount)


def test_ewc_is_the_sum_of_quadratics_and_online_ewc_the_recursion():
    here = scene()
    parameters = dict(here.model.named_parameters())
    ewc, online = EWC(strength=3.0), OnlineEWC(strength=3.0, decay=0.5)
    kept = []
    for stage in (("kind",), ("price",)):
        now = Scene(here.model, here.tasks, here.train, Stage(stage[0], stage))
        for remedy in (ewc, online):
            remedy.begin(now)
        if not kept:
            assert ewc.term([], 0) is None
            assert online.term([], 0) is None
        for remedy in (ewc, online):
            remedy.end()
        inside = reached(now)
        kept.append((fisher(now, inside, 1000), {name: p.detach().clone() for name, p in inside.items()}))
        move(here.model, 0.1)
    expected = sum(1.5 * (f[n] * (parameters[n] - c[n]) ** 2).sum() for f, c in kept for n in f)
    torch.testing.assert_close(ewc.term([], 0), expected)
    (first, _), (second, centre) = kept
    both = sum(1.5 * ((0.5 * first[n] + second[n]) * (parameters[n] - centre[n]) ** 2).sum() for n in second)
    torch.testing.assert_close(online.term([], 0), both)


def test_the_path_integral_of_a_quadratic_is_the_loss_that_each_coordinate_took_away():
    here = scene()
    remedy = SynapticIntelligence(strength=2.0, damping=0.01)
    remedy.begin(here)
    parameters = reached(here)
    curvature = {name: torch.rand_like(p) + 0.5 for name, p in parameters.items()}
    start = {name: p.detach().clone() for name, p in parameters.items()}
    for _ in range(400):
        for name, p in parameters.items():
            p.grad = curvature[name] * p.detach()
        remedy.after_losses()
        with torch.no_grad():
            for p in parameters.values():
                p -= 0.002 * p.grad
        remedy.after_update()
    for name, p in parameters.items():
        lost = 0.5 * curvature[name] * (start[name] ** 2 - p.detach() ** 2)
        torch.testing.assert_close(remedy.path[name], lost, rtol=5e-3, atol=1e-6)
    remedy.end()
    name, p = next(iter(parameters.items()))
    expected = remedy.path[name].clamp_min(0) / ((p.detach() - start[name]) ** 2 + 0.01)
    torch.testing.assert_close(remedy.importance[name], expected)
    assert remedy.term([], 0).item() == 0.0
    move(here.model, 0.1)
    total = sum(2.0 * 0.01 * value.sum() for value in remedy.importance.values())
    torch.testing.assert_close(remedy.term([], 0), total)


def test_the_path_ends_at_the_epoch_that_is_kept():
    here = scene()
    remedy = SynapticIntelligence()
    remedy.begin(here)
    name, p = next(iter(reached(here).items()))
    remedy.path[name] += 1.0
    remedy.new_best()
    remedy.path[name] += 5.0
    remedy.end()
    torch.testing.assert_close(remedy.importance[name], torch.full_like(p, 1 / 0.1))


@pytest.mark.parametrize("seed", range(6))
def test_a_gem_is_the_nearest_gradient_that_does_not_raise_the_memorys_loss(seed, monkeypatch):
    here = scene(learned=("price",))
    remedy = AGEM()
    remedy.scene = here
    parameters = list(here.model.parameters())
    generator = torch.Generator().manual_seed(seed)
    g = [torch.randn(p.shape, generator=generator) for p in parameters]
    r = [torch.randn(p.shape, generator=generator) for p in parameters]
    monkeypatch.setattr(
        remedy, "remembered", lambda step: {"price": sum((p * q).sum() for p, q in zip(parameters, r, strict=True))}
    )
    for p, value in zip(parameters, g, strict=True):
        p.grad = value.clone()
    remedy.before_update([], 0)
    flat = [torch.cat([v.flatten() for v in vs]).double().numpy() for vs in (g, r, [p.grad for p in parameters])]
    # The distance |x - g| under x r >= 0, by its dual: x = g + a r with the least a >= 0 that is feasible.
    a = optimize.nnls(flat[1][:, None], -flat[0])[0][0]
    np.testing.assert_allclose(flat[2], flat[0] + a * flat[1], atol=1e-5)
    assert flat[2] @ flat[1] > -1e-4
    if flat[0] @ flat[1] >= 0:
        assert all(torch.equal(p.grad, value) for p, value in zip(parameters, g, strict=True))


def test_a_reservoir_keeps_every_row_with_the_same_probability():
    counts = np.zeros(30)
    stream = torch.stack([torch.zeros(30), torch.zeros(30), torch.arange(30), torch.zeros(30)], 1).long()
    for seed in range(1500):
        memory = Memory(6)
        generator = torch.Generator().manual_seed(seed)
        memory.add(stream[:17], generator)  # in two pieces, as after two stages
        memory.add(stream[17:], generator)
        assert len(memory.rows) == 6
        for row in memory.rows:
            counts[row[2]] += 1
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_class_balanced_memory_keeps_classes_equally_and_their_rows_with_one_probability():
    classes = torch.tensor([0] * 80 + [1] * 15 + [2] * 5)
    counts = np.zeros(100)
    for seed in range(800):
        order = torch.randperm(100, generator=torch.Generator().manual_seed(10_000 + seed))
        stream = torch.stack([torch.zeros(100).long(), torch.zeros(100).long(), order, classes[order]], 1)
        memory = Memory(12, "class_balanced")
        memory.add(stream, torch.Generator().manual_seed(seed))
        kept = np.bincount([row[3] for row in memory.rows], minlength=3)
        assert kept.tolist() == [4, 4, 4]
        for row in memory.rows:
            counts[row[2]] += 1
    assert stats.chisquare(counts[:80]).pvalue > 1e-3
    assert stats.chisquare(counts[80:95]).pvalue > 1e-3


def test_the_bound_in_bytes_is_that_of_the_rows():
    source = scene().train["main"]
    assert (
        row_bytes(source) == 4 * 4 + source.targets["kind"].element_size() + source.targets["price"].element_size() + 2
    )
    remedy = AGEM(rows=100, bytes=10 * row_bytes(source))
    remedy.begin(scene())
    remedy.end()
    assert len(remedy.memory.rows) == 10
    state = remedy.state_dict()["memory"]["rows"]
    assert state.shape == (10, 4)


def test_distillation_is_the_papers_formula_of_probabilities():
    generator = torch.Generator().manual_seed(3)
    now, before = torch.randn(2, 7, 4, generator=generator, dtype=torch.float64)
    p, q = functional.softmax(now, -1).numpy(), functional.softmax(before, -1).numpy()

    def softened(values):
        powers = values ** (1 / 2.0)
        return powers / powers.sum(-1, keepdims=True)

    expected = -(softened(q) * np.log(softened(p))).sum(-1).mean()
    np.testing.assert_allclose(distillation(now, before, "softmax", 2.0).item(), expected, rtol=1e-12)
    s, t = 1 / (1 + np.exp(-now.numpy() / 2)), 1 / (1 + np.exp(-before.numpy() / 2))
    binary = -(t * np.log(s) + (1 - t) * np.log(1 - s)).sum(-1).mean()
    np.testing.assert_allclose(distillation(now, before, "logit", 2.0).item(), binary, rtol=1e-12)
    assert distillation(now, before, "identity", 2.0).item() == pytest.approx(((now - before) ** 2).sum(-1).mean() / 2)


def test_transfer_is_that_of_the_papers_matrix():
    rng = np.random.default_rng(0)
    R, b, joint = rng.random((3, 3)), rng.random(3), rng.random(3)
    found = [transfer(R[:, j], [i == j for i in range(3)], b[j], joint[j]) for j in range(3)]

    def mean(kind):
        values = [one[kind] for one in found if one[kind] is not None]
        return sum(values) / len(values)

    assert mean("backward") == pytest.approx(np.mean([R[2, i] - R[i, i] for i in range(2)]))
    assert mean("forward") == pytest.approx(np.mean([R[i - 1, i] - b[i] for i in range(1, 3)]))
    assert mean("forgetting") == pytest.approx(np.mean([max(R[0, j], R[1, j]) - R[2, j] for j in range(2)]))
    assert mean("intransigence") == pytest.approx(np.mean([joint[k] - R[k, k] for k in range(3)]))
    assert transfer([0.5], [True], float("nan")) == dict.fromkeys(
        ("backward", "forward", "forgetting", "intransigence")
    )


@pytest.mark.parametrize("members", [1, 3])
def test_a_line_is_ridge_with_each_row_left_out_and_the_head_gives_its_answers(members):
    here = scene(20)
    source = here.train["main"]
    new = Binary(name="new")
    labels = (source.inputs[:, 0] > 0).numpy().astype(int)
    new.fit(labels)
    targets, observed = (torch.from_numpy(array) for array in new.encode(labels))
    rows = ArraySource("main", source.inputs, {"new": targets}, {"new": observed})
    encoder, options = ("mlp", {"widths": (5,)}) if members == 1 else ("tabm", {"k": members, "width": 8})
    shape = Field((4,))
    spec = ModelSpec({"main": InputShape({"x" if members == 1 else "numeric": shape})}, {"kind": 3, "new": 1},
                     encoder=encoder, encoder_options=options,
                     links={"kind": "softmax" if members == 1 else "identity", "new": "identity"})  # fmt: skip
    model = build_model(spec).eval()
    if members > 1:
        rows = ArraySource("main", {"numeric": source.inputs}, rows.targets, rows.observed)
    (line,) = lines_from(model, {"main": rows}, new, ["kind"])
    with torch.no_grad():
        z = model(rows.inputs, ["kind"], "main")["kind"].double().numpy()
    y = np.where(labels == 1, np.log(9), -np.log(9))[:, None]
    scale = z.std(0)
    errors, plain = [], []
    for i in range(20):
        # The penalty and the scale are those of all rows, as the closed form has them.
        others = np.arange(20) != i
        x = np.hstack([np.ones((20, 1)), (z - z.mean(0)) / scale])
        penalty = np.diag([0.0, *[1.0] * z.shape[1]])
        beta = np.linalg.solve(x[others].T @ x[others] + penalty, x[others].T @ y[others])
        errors.append(((y[i] - x[i] @ beta) ** 2).sum())
        plain.append(((y[i] - y[others].mean(0)) ** 2).sum())
    assert line.resemblance == pytest.approx(1 - sum(errors) / sum(plain), abs=1e-6)
    assert start_from(model, "new", line)
    with torch.no_grad():
        answer = model(rows.inputs, ["new"], "main")["new"].double().numpy()
    np.testing.assert_allclose(answer, z @ line.slope.numpy().T + line.offset.numpy(), atol=1e-4)


def test_fewer_than_two_labels_give_no_line():
    here = scene(20)
    source = here.train["main"]
    observed = torch.zeros(20, dtype=torch.bool)
    rows = ArraySource("main", source.inputs, {"price": source.targets["price"]}, {"price": observed})
    assert lines_from(here.model, {"main": rows}, here.tasks["price"], ["kind"]) == []


def by_counting(memory, stream, generator):
    """The paper's algorithm 1 as it is written, counting all classes anew for each row."""
    chances = torch.rand(len(stream), 2, generator=generator, dtype=torch.float64).tolist()
    for row, (first, second) in zip(stream.tolist(), chances, strict=True):
        memory.seen[row[3]] = memory.seen.get(row[3], 0) + 1
        if len(memory.rows) < memory.capacity:
            memory.rows.append(row)
            continue
        counts = {kind: [kept[3] for kept in memory.rows].count(kind) for kind in {kept[3] for kept in memory.rows}}
        most = max(counts.values())
        memory.full |= {kind for kind, count in counts.items() if count == most}
        if row[3] not in memory.full:
            places = [i for i, kept in enumerate(memory.rows) if counts[kept[3]] == most]
        elif first < counts.get(row[3], 0) / memory.seen[row[3]]:
            places = [i for i, kept in enumerate(memory.rows) if kept[3] == row[3]]
        else:
            continue
        memory.rows[places[int(second * len(places))]] = row


def test_a_class_balanced_memory_is_the_papers_that_counts_anew_for_each_row():
    """The rows within a class are exchangeable, and so are classes of one size: sizes and what is full agree."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        classes = torch.multinomial(torch.tensor([0.6, 0.2, 0.1, 0.07, 0.03]), 150, True, generator=generator)
        stream = torch.stack([torch.zeros(150).long(), torch.zeros(150).long(), torch.arange(150), classes], 1)
        ours, theirs = Memory(13, "class_balanced"), Memory(13, "class_balanced")
        ours.add(stream[:60], torch.Generator().manual_seed(5))
        ours.add(stream[60:], torch.Generator().manual_seed(6))
        by_counting(theirs, stream, torch.Generator().manual_seed(7))
        assert ours.seen == theirs.seen
        assert len({row[2] for row in ours.rows}) == 13, "no row is kept twice"
        sizes = [sorted(torch.tensor([row[3] for row in memory.rows]).bincount().tolist()) for memory in (ours, theirs)]
        assert sizes[0] == sizes[1]


def test_distillation_of_tags_leaves_padding_out():
    """The same sentences with more padding beside them are held as strongly."""
    sources = {"words": InputShape({"x": Field((7,), (20,))})}
    spec = ModelSpec(
        inputs=sources,
        n_outputs={"tag": 3, "new": 1},
        encoder="text_cnn",
        encoder_options={"width": 8, "embedding_width": 6, "dropout": 0.0},
        element_tasks=("tag",),
        links={"tag": "softmax", "new": "identity"},
    )
    torch.manual_seed(0)
    model = build_model(spec)
    tag, new = Tagging(name="tag"), Regression(name="new")
    here = Scene(model, {"tag": tag, "new": new}, {}, Stage("new", ("new",)), number=1, learned=("tag",))
    remedy = LearningWithoutForgetting(temperature=1.0)
    remedy.begin(here)
    move(model, 0.3)
    model.eval()
    words = torch.tensor([[3, 4, 5, 6, 7, 8, 9], [5, 2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]])
    there = words != 0
    batch = Batch(words, {}, {}, "words")
    found = remedy.term([batch], 0)
    logs = model(words, ["tag"], "words")["tag"].log_softmax(-1)
    before = remedy.teacher(words, ["tag"], "words")["tag"].softmax(-1)
    torch.testing.assert_close(found, -(before * logs).sum(-1)[there].sum() / 9)
    assert remedy.term([Batch(words[2:], {}, {}, "words")], 0) is None, "no element, nothing to keep"


def test_tasks_whose_labels_name_no_right_output_have_no_line():
    """Embeddings are no numbers of a class, and tags are of words, not of rows."""
    here = scene(20)
    source = here.train["main"]
    codes = torch.arange(20) % 3
    rows = ArraySource("main", source.inputs, {"new": codes}, {"new": torch.ones(20, dtype=torch.bool)})
    look = Retrieval(name="new", size=4)
    look.fit(codes.numpy())
    kinds = Multiclass(name="new")
    kinds.fit(codes.numpy())
    assert lines_from(here.model, {"main": rows}, kinds, ["kind"])
    assert lines_from(here.model, {"main": rows}, look, ["kind"]) == []
    assert lines_from(here.model, {"main": rows}, Tagging(name="new"), ["kind"]) == []
