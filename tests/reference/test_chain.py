"""Tags with transitions, held against sums over every sequence of tags."""

import itertools

import numpy as np
import pytest
import torch

from polytask.tasks import Tagging
from polytask.tasks._chain import best_chain, chain_losses
from polytask.testing import check_task

K, L = 3, 4


def potentials(seed, n=5):
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, L, *shape, generator=draw, dtype=torch.float64) * 2 for shape in ((K,), (K, K)))


def energy(scores, pairs, tags):
    """The score of one sequence, element by element."""
    return sum(scores[i, t] + (pairs[i, tags[i - 1], t] if i else 0.0) for i, t in enumerate(tags))


def every(scores, pairs):
    sequences = list(itertools.product(range(K), repeat=L))
    return sequences, torch.stack([energy(scores, pairs, tags) for tags in sequences])


@pytest.mark.parametrize("seed", range(4))
def test_losses_are_those_of_the_field_over_all_sequences(seed):
    scores, pairs = potentials(seed)
    tags = torch.randint(K, (5, L), generator=torch.Generator().manual_seed(seed))
    losses = chain_losses(scores, pairs, tags)
    for row in range(5):
        sequences, energies = every(scores[row], pairs[row])
        chances = torch.softmax(energies, 0)
        for i in range(L):
            wanted = tuple(tags[row, : i + 1].tolist())
            agree, before = (
                sum(chances[n] for n, s in enumerate(sequences) if s[: len(begun)] == begun)
                for begun in (wanted, wanted[:-1])
            )
            assert losses[row, i].item() == pytest.approx(-torch.log(agree / before).item(), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_tags_that_are_not_known_are_summed_over_and_cost_nothing(seed):
    scores, pairs = potentials(seed, 1)
    for known in itertools.product((-1, 0, 2), repeat=L):
        losses = chain_losses(scores, pairs, torch.tensor([known]))[0]
        sequences, energies = every(scores[0], pairs[0])
        agree = [all(k in (-1, t) for k, t in zip(known, s, strict=True)) for s in sequences]
        wanted = torch.logsumexp(energies, 0) - torch.logsumexp(energies[torch.tensor(agree)], 0)
        assert losses.sum().item() == pytest.approx(wanted.item(), abs=1e-9)
        assert losses[torch.tensor(known) < 0].abs().max() < 1e-9 if -1 in known else True


@pytest.mark.parametrize("seed", range(4))
def test_the_best_sequence_is_the_best_of_all(seed):
    scores, pairs = potentials(seed)
    for row, tags in enumerate(best_chain(scores, pairs).tolist()):
        sequences, energies = every(scores[row], pairs[row])
        assert tuple(tags) == sequences[int(energies.argmax())]


def test_without_scores_of_pairs_the_field_is_the_softmax():
    scores, pairs = potentials(0)
    tags = torch.randint(K, (5, L))
    plain = torch.nn.functional.cross_entropy(scores.flatten(0, 1), tags.flatten(), reduction="none").view(5, L)
    torch.testing.assert_close(chain_losses(scores, torch.zeros_like(pairs), tags), plain)
    assert torch.equal(best_chain(scores, torch.zeros_like(pairs)), scores.argmax(-1))


@pytest.mark.parametrize("labels", [[0, 1, 1, 0, 1, 0, 0, 1, 1], ["a b", "b", "c", "a", "b", "c", "a", "b", "c"]])
def test_the_kind_keeps_the_contract(labels):
    task = Tagging(name="target", transitions=True)
    array = np.array(labels, dtype=object)
    task.fit(array)
    assert task.n_outputs == len(task.classes_) * (1 + len(task.classes_))
    if isinstance(labels[0], int):
        check_task(lambda: Tagging(name="target", transitions=True), labels)


def test_padding_after_the_end_changes_nothing():
    task = Tagging(name="t", transitions=True)
    task.fit(np.array(["A B A", "B B", "C A"], dtype=object))
    z = torch.randn(1, 6, task.n_outputs, generator=torch.Generator().manual_seed(0))
    z[:, 3:] = 0.0  # as the model fills it
    targets = torch.tensor([[0, 1, 0, -1, -1, -1]])
    observed = targets >= 0
    alone = task.loss(z[:, :3], targets[:, :3], observed[:, :3])
    torch.testing.assert_close(task.loss(z, targets, observed), alone)
    assert task.decode(z).values[0][:3].tolist() == task.decode(z[:, :3]).values[0].tolist()


def test_what_observed_hides_is_summed_over_whatever_its_target():
    task = Tagging(name="target", transitions=True)
    task.fit(np.array(["a b c a", "b c c a"], dtype=object))
    z = torch.randn(2, L, task.n_outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    told, observed = (torch.from_numpy(array) for array in task.encode(np.array(["a _ c a", "b c c _"], dtype=object)))
    losses, metrics = task.loss(z, told, observed), task.evaluate(z, told, observed)
    for tag in range(K):
        hidden = told.masked_fill(~observed, tag)
        assert torch.equal(task.loss(z, hidden, observed), losses)
        assert task.evaluate(z, hidden, observed) == pytest.approx(metrics, nan_ok=True)
