"""What every augmentation must keep, as one call for authors of new ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch

from polytask.data.augmentations.augmentation import Augmentation
from polytask.data.batch import Batch
from polytask.shapes import Tensor

__all__ = ["check_augmentation"]


def check_augmentation(make: Callable[[], Augmentation]) -> None:
    """Check an augmentation against the contract of :class:`polytask.data.augmentations.Augmentation`.

    Shapes and types of the inputs stay, codes stay codes that were there, nothing that is no number comes in; labels
    are not touched; the batch given is left as it is; all chance comes from the generator; a batch of one row works.

    Args:
        make: Makes the augmentation, always the same.

    Raises:
        AssertionError: If the contract is broken; the message says how.

    Example:
        >>> from polytask.data.augmentations import Rotate
        >>> check_augmentation(Rotate)
    """
    for name, batch in _batches(make().of_images).items():
        before = copy.deepcopy(batch)
        one, same, other = (make()(batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert _equal(batch.inputs, before.inputs), f"{name}: the batch that was given is changed"
        assert _equal(one.inputs, same.inputs), f"{name}: chance comes from elsewhere than the generator"
        if len(batch) > 1:
            assert not _equal(one.inputs, other.inputs), f"{name}: two generators give the same batch"
        assert _equal(one.targets, before.targets), f"{name}: labels are changed"
        assert _equal(one.observed, before.observed), f"{name}: what is observed is changed"
        assert (one.mix is None) == (one.partner is None), f"{name}: a mixture needs its parts and its partners"
        for key, (new, old) in _paired(one, before).items():
            assert new.shape == old.shape, f"{name}: the shape of {key!r} became {tuple(new.shape)}"
            assert new.dtype == old.dtype, f"{name}: the type of {key!r} became {new.dtype}"
            assert bool(new.isfinite().all()), f"{name}: {key!r} holds what is no number"
            if not new.is_floating_point():
                known = [set(column.tolist()) for column in old.T]
                held = all(set(column.tolist()) <= codes for column, codes in zip(new.T, known, strict=True))
                assert held, f"{name}: {key!r} holds codes that were not there"


def _batches(of_images: bool) -> dict[str, Batch]:
    generator = torch.Generator().manual_seed(0)

    def batch(inputs: Tensor | dict[str, Tensor], n: int) -> Batch:
        return Batch(inputs, {"a": torch.arange(n) % 3}, {"a": torch.arange(n) % 2 == 0}, "source")

    batches = {f"images, {n}": batch(torch.rand(n, 2, 12, 8, generator=generator), n) for n in (1, 6)}
    if not of_images:
        codes = torch.randint(4, (6, 3), generator=generator)
        batches["numbers"] = batch(torch.randn(6, 5, generator=generator), 6)
        batches["a table"] = batch({"numeric": torch.randn(6, 5, generator=generator), "categorical": codes}, 6)
    return batches


def _named(inputs: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {"x": inputs} if isinstance(inputs, Tensor) else inputs


def _paired(one: Batch, other: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    new, old = _named(one.inputs), _named(other.inputs)
    assert new.keys() == old.keys(), f"the inputs became {sorted(new)}"
    return {key: (new[key], old[key]) for key in new}


def _equal(one: Tensor | Mapping[str, Tensor], other: Tensor | Mapping[str, Tensor]) -> bool:
    a, b = _named(one), _named(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
