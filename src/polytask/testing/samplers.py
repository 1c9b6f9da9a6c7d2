"""What every mixing policy must keep, as one call for authors of new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from polytask.data.plan import BatchPlan
from polytask.data.sampler import Sampler

__all__ = ["check_sampler"]

_SIZES: tuple[Mapping[str, int], ...] = ({"a": 1}, {"a": 7}, {"a": 12, "b": 3}, {"b": 40, "a": 1, "c": 9})
_EPOCHS = (0, 1, 50)


def check_sampler(make: Callable[[], Sampler]) -> None:
    """Check a mixing policy against the contract of :class:`polytask.data.Sampler`.

    Shares are a distribution over the sources; an epoch has the steps that were asked for, each of a source that
    there is, in about those shares; the generator is the only source of chance; a plan that uses the policy goes on
    with the very same batches after its state was saved and loaded, at any step.

    Args:
        make: Makes the policy, always the same, for sources among ``a``, ``b`` and ``c``.

    Raises:
        AssertionError: If the policy breaks the contract; the message says how.

    Example:
        >>> from polytask.data.samplers import Uniform
        >>> check_sampler(Uniform)
    """
    assert isinstance(make(), Sampler), f"{make()!r} is no Sampler"
    for sizes in _SIZES:
        for epoch in _EPOCHS:
            _check_shares(make(), sizes, epoch)
            _check_order(make(), sizes, epoch)
    _check_resume(make)


def _check_shares(sampler: Sampler, sizes: Mapping[str, int], epoch: int) -> None:
    shares = sampler.shares(sizes, epoch)
    assert list(shares) == list(sizes), f"shares must name the sources in order, got {list(shares)} for {list(sizes)}"
    assert all(0 <= share <= 1 for share in shares.values()), f"a share is not in 0 to 1: {shares}"
    assert abs(sum(shares.values()) - 1) < 1e-9, f"shares must sum to 1: {shares}"
    backwards = sampler.shares(dict(reversed(list(sizes.items()))), epoch)
    assert all(abs(backwards[name] - share) < 1e-12 for name, share in shares.items()), (
        "shares must not depend on the order of the sources"
    )


def _check_order(sampler: Sampler, sizes: Mapping[str, int], epoch: int) -> None:
    for n_steps in (1, sum(sizes.values()), 200):
        order = sampler.order(sizes, n_steps, epoch, torch.Generator().manual_seed(3))
        assert order.shape == (n_steps,), f"order must have {n_steps} steps, got {tuple(order.shape)}"
        assert order.dtype == torch.int64, f"order must be int64, got {order.dtype}"
        assert 0 <= int(order.min()) <= int(order.max()) < len(sizes), "order names a source that there is not"
        torch.manual_seed(11)
        again = sampler.order(sizes, n_steps, epoch, torch.Generator().manual_seed(3))
        assert torch.equal(order, again), "order must depend on the generator only"
        counts = torch.bincount(order, minlength=len(sizes)).tolist()
        for count, (name, share) in zip(counts, sampler.shares(sizes, epoch).items(), strict=True):
            assert abs(count - share * n_steps) < 1 + 1e-6, (
                f"source {name!r} has {count} of {n_steps} steps, but a share of {share}"
            )


def _check_resume(make: Callable[[], Sampler]) -> None:
    def plan() -> BatchPlan:
        return BatchPlan({"a": 11, "b": 5}, 2, make(), seed=4)

    whole = plan()
    batches = [draw for _ in range(3) for draw in whole.epoch()]
    for done in (0, 1, whole.n_steps, whole.n_steps + 3):
        first, second = plan(), plan()
        left = done
        while left:
            for _ in first.epoch():
                left -= 1
                if not left:
                    break
        second.load_state_dict(first.state_dict())
        rest: list[object] = []
        while second.epochs_done < 3:
            rest += [(draw.source, draw.rows.tolist()) for draw in second.epoch()]
        expected = [(draw.source, draw.rows.tolist()) for draw in batches[done:]]
        assert rest == expected, f"batches differ after a plan was saved and loaded at step {done}"
