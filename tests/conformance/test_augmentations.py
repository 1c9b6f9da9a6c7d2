"""Every registered augmentation keeps the contract; no wiring per method. And what each does, by hand."""

from dataclasses import replace

import pytest
import torch

from polytask.data.augmentations import Augmentation, Cutout, Mixup, Noise, Rotate, Shift, registry
from polytask.data.batch import ArraySource, Batch
from polytask.errors import RecipeError
from polytask.tasks import Regression
from polytask.testing import check_augmentation
from polytask.training.objective import Objective


@pytest.mark.parametrize("name", registry.names())
def test_every_method_keeps_the_contract(name):
    check_augmentation(lambda: registry.create(name))


class InPlace(Augmentation):
    def __call__(self, batch, generator):
        for x in [batch.inputs] if isinstance(batch.inputs, torch.Tensor) else batch.inputs.values():
            x += 1
        return batch


class OwnChance(Augmentation):
    def __call__(self, batch, generator):
        return Noise()(batch, torch.Generator().manual_seed(int(torch.randint(2**40, (1,)))))


class Fixed(Augmentation):
    def __call__(self, batch, generator):
        return batch


class Labels(Augmentation):
    def __call__(self, batch, generator):
        return replace(Noise()(batch, generator), targets={"a": batch.targets["a"] + 1})


@pytest.mark.parametrize(
    ("cls", "message"),
    [(InPlace, "that was given is changed"), (OwnChance, "chance"), (Fixed, "same batch"), (Labels, "labels")],
)
def test_the_check_finds_what_is_broken(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_augmentation(cls)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(std=-1), "std of at least 0"),
        (lambda: Cutout(share=2), "share from 0 to 1"),
        (lambda: Mixup(alpha=0), "alpha above 0"),
        (lambda: Shift(most=-0.1), "most from 0 to 1"),
        (lambda: Rotate(degrees=200), "degrees from 0 to 180"),
    ],
)
def test_options_out_of_range_are_said(make, message):
    with pytest.raises(RecipeError, match=message):
        make()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(x: torch.Tensor) -> Batch:
    return Batch(x, {}, {}, "images")


def test_a_quarter_turn_is_that_of_rot90():
    x = torch.rand(1, 1, 6, 6)

    turned = Rotate(degrees=90)
    seen = [turned(images(x), generator(seed)).inputs for seed in range(40)]
    # No seed gives exactly 90 degrees; the far ends of the range come near it, from both sides.
    nearest = min((image - torch.rot90(x, k, (2, 3))).abs().mean().item() for image in seen for k in (1, 3))
    assert nearest < 0.1
    assert torch.allclose(Rotate(degrees=0)(images(x), generator()).inputs, x, atol=1e-6)


def test_a_shift_moves_whole_pixels():
    x = torch.rand(20, 1, 8, 8) + 0.1
    moved = Shift(most=0.25)(images(x), generator()).inputs
    for before, after in zip(x, moved, strict=True):
        found = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(
                after[:, max(down, 0) : 8 + min(down, 0), max(right, 0) : 8 + min(right, 0)],
                before[:, max(-down, 0) : 8 + min(-down, 0), max(-right, 0) : 8 + min(-right, 0)],
            )
            and (after == 0).sum() == 64 - (8 - abs(down)) * (8 - abs(right))
        ]
        assert len(found) == 1


def test_cutout_of_numbers_leaves_out_a_share():
    cut = Cutout(share=0.3)(images(torch.ones(1000, 10)), generator()).inputs
    assert (cut == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_mixup_mixes_losses_as_inputs_and_leaves_missing_labels_out():
    task = Regression(name="y")
    task.fit(torch.tensor([0.0, 1.0]).numpy())
    x = torch.arange(4.0)[:, None]
    y, seen = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([True, False, True, True])
    weights = torch.tensor([1.0, 1.0, 0.5, 2.0])
    source = ArraySource("t", x, {"y": y}, {"y": seen}, weights)
    objective = Objective([task], {"t": source})
    mixed = Mixup()(source.batch(torch.arange(4)), generator(3))
    mix, partner = mixed.mix, mixed.partner
    assert torch.allclose(mixed.inputs, mix[:, None] * x + (1 - mix[:, None]) * x[partner])
    outputs = torch.randn(4, 1, generator=generator(5))
    whole = torch.ones(4, dtype=torch.bool)
    own, other = task.loss(outputs, y, whole), task.loss(outputs, y[partner], whole)
    expected = (mix * weights * own * seen + (1 - mix) * weights[partner] * other * seen[partner]).sum() / 3
    assert objective({"y": outputs}, mixed)["y"].item() == pytest.approx(expected.item(), rel=1e-5)
    members = objective.__class__([task], {"t": source}, n_members=2)
    twice = outputs[:, None].expand(4, 2, 1)
    assert members({"y": twice}, mixed)["y"].item() == pytest.approx(expected.item(), rel=1e-5)
    complete = ArraySource("t", x, {"y": y}, {"y": whole})
    batch = replace(mixed, observed={"y": whole}, row_weights=None)
    expected = (mix * own + (1 - mix) * other).mean()
    assert Objective([task], {"t": complete})({"y": outputs}, batch)["y"].item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_mixup_of_codes_draws_one_of_both():
    codes = torch.tensor([[0], [1]]).repeat(500, 1)
    mixed = Mixup(alpha=1.0)(Batch({"categorical": codes}, {}, {}, "t"), generator(1))
    kept = (mixed.inputs["categorical"] == codes).float().mean().item()
    same = (codes == codes[mixed.partner]).float()
    assert kept == pytest.approx((mixed.mix[:, None] * (1 - same) + same).mean().item(), abs=0.05)
    with pytest.raises(RecipeError, match="comes twice"):
        Mixup()(mixed, generator(1))


def test_a_second_image_of_another_size_moves_by_the_same_share():
    large, small = torch.zeros(30, 1, 8, 12), torch.zeros(30, 1, 4, 6)
    large[:, :, 2:6, 4:8], small[:, :, 1:3, 2:4] = 1.0, 1.0
    batch = replace(images(large), inputs={"large": large, "small": small})
    moved = Shift(most=0.25)(batch, generator()).inputs
    corners = {name: [image.nonzero()[0, 1:].tolist() for image in seen] for name, seen in moved.items()}
    assert len({tuple(corner) for corner in corners["large"]}) > 3
    for (down, right), (less_down, less_right) in zip(corners["large"], corners["small"], strict=True):
        assert abs(less_down - down / 2) <= 0.5
        assert abs(less_right - right / 2) <= 0.5
    alike = replace(images(large), inputs={"large": large, "again": large})
    both = Shift(most=0.25)(alike, generator()).inputs
    assert torch.equal(both["large"], both["again"])
