"""Conformance of an encoder: what every one of them must do, whoever wrote it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from polytask.errors import PolytaskError
from polytask.models.encoders import registry
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import SINGLE, Field, InputShape
from polytask.models.model import MultiTaskModel
from polytask.models.sharing import registry as sharings
from polytask.serving.graphs import quiet, random_rows
from polytask.shapes import Inputs, Tensor
from polytask.testing.sharing_cases import every, length, numbers, spoil_first, take

__all__ = ["check_encoder"]

_ROWS = 5
_TABLE = {"numeric": Field((3,)), "categorical": Field((2,), (4, 7))}
_WORDS = {"words": Field((7,), (20,)), "pieces": Field((7, 3), (9,))}
_FAMILIES: Mapping[str, tuple[Mapping[str, Field], Mapping[str, Field]]] = {
    "numbers": ({SINGLE: Field((6,))}, {SINGLE: Field((4,))}),
    "a table": (_TABLE, {**_TABLE, "numeric": Field((8,))}),
    "a table of numbers": ({"numeric": Field((3,))}, {"numeric": Field((8,))}),
    "a table of categories": ({"categorical": Field((2,), (4, 7))}, {"categorical": Field((1,), (3,))}),
    "a table with molecules": ({**_TABLE, "molecule": Field((16,))}, {"molecule": Field((16,))}),
    "images": ({SINGLE: Field((1, 16, 16))}, {SINGLE: Field((3, 16, 16))}),
    "words": ({"words": Field((7,), (20,))}, {"words": Field((5,), (20,))}),
    "words in pieces": (_WORDS, {"words": Field((5,), (20,)), "pieces": Field((5, 3), (9,))}),
    "words and an answer": ({**_WORDS, "prefix": Field((4,), (11,))}, _WORDS),
}
"""Inputs of every sort that polytask has, and others of the same sort, as a second source has them."""
_WAVES = {"waves": ({SINGLE: Field((2000,))}, {SINGLE: Field((1600,))})}
"""Tried if the encoder takes none of the others: to those that read numbers they are numbers, and very many."""


@dataclass(frozen=True)
class _Case:
    """Inputs that the encoder takes."""

    cls: type[Encoder]
    options: Mapping[str, Any]
    inputs: Mapping[str, InputShape]

    def build(self, seed: int = 0) -> Encoder:
        torch.manual_seed(seed)
        return self.cls(dict(self.inputs), **self.options)

    def model(self, ratio: float = 1.0) -> MultiTaskModel:
        """A network of two tasks of rows, the second of which has a tower of its own above ``ratio`` of the stages."""
        sharing = sharings.create("hard", self.build(), ["a", "b"], ratio=ratio)
        return MultiTaskModel(sharing, sharing.make_heads({"a": 2, "b": 1})).eval()

    def rows(self, source: str, n: int = _ROWS) -> Inputs:
        shape = self.inputs[source]
        tensors = random_rows(shape, n)
        return tensors[0] if tuple(shape.fields) == (SINGLE,) else dict(zip(shape.fields, tensors, strict=True))


def check_encoder(
    encoder: str | type[Encoder],
    *,
    options: Mapping[str, Any] | None = None,
    inputs: Mapping[str, InputShape] | None = None,
) -> None:
    """Check that an encoder keeps its contract, on inputs of every sort that it takes.

    It is offered numbers, tables with and without numbers, categories and molecules, images, words and waves, and has
    to take some of them and to refuse the others by :class:`~polytask.errors.InputError`. On what it takes are checked:
    finite rows of the stated width; a gradient to every parameter, and from every source to all stages above the first;
    the same network from the same seed and the same answers in every pass of prediction; saving, loading and copying;
    a batch of one row; rows that do not depend on others, also where those are NaN; two sources, alike and different
    ones (which may be refused); hard sharing at every ratio; and export with a batch of any size, if
    it is claimed.

    Args:
        encoder: A name, or a class of your own.
        options: Options to build it with.
        inputs: Shape of each source's inputs, for an encoder that takes none of those above.

    Raises:
        AssertionError: Saying what is broken, on which inputs.

    Example:
        >>> check_encoder("mlp", options={"widths": (8, 7)})
    """
    cls: type[Encoder] = registry.load(encoder) if isinstance(encoder, str) else encoder
    chosen = dict(options or {})
    if inputs:
        taken = _taken(cls, [("the given inputs", _Case(cls, chosen, dict(inputs)))])
        assert taken, f"{cls.__name__} refuses the given inputs."
        return
    taken = _taken(cls, _cases(cls, chosen, _FAMILIES)) or _taken(cls, _cases(cls, chosen, _WAVES))
    offered = ", ".join([*_FAMILIES, *_WAVES])
    assert taken, f"{cls.__name__} takes none of {offered}. Say with inputs= what it does take."


def _taken(cls: type[Encoder], cases: Iterable[tuple[str, _Case]]) -> int:
    """Check all of these inputs; how many the encoder takes."""
    taken = 0
    for name, case in cases:
        try:
            taken += _check_case(case)
        except AssertionError as error:
            raise AssertionError(f"{cls.__name__} on {name}: {error}") from error
    return taken


def _cases(
    cls: type[Encoder],
    options: Mapping[str, Any],
    families: Mapping[str, tuple[Mapping[str, Field], Mapping[str, Field]]],
) -> Iterator[tuple[str, _Case]]:
    for name, (first, second) in families.items():
        one, other = InputShape(first), InputShape(second)
        yield name, _Case(cls, options, {"main": one})
        yield f"{name}, of two sources", _Case(cls, options, {"left": one, "right": one})
        yield f"{name}, of two sources that differ", _Case(cls, options, {"left": one, "right": other})


def _check_case(case: _Case) -> bool:
    """Run all checks; false if the encoder refuses the inputs."""
    try:
        case.build()
    except PolytaskError:
        return False
    except Exception as error:
        fields = {source: dict(shape.fields) for source, shape in case.inputs.items()}
        raise AssertionError(
            f"inputs that it does not take must be refused by an InputError that says what it reads; the fields "
            f"{fields} got {type(error).__name__}: {error}"
        ) from error
    for check in _CHECKS:
        try:
            check(case)
        except AssertionError as error:
            doc = (check.__doc__ or "").strip().splitlines()[0]
            raise AssertionError(f"{doc} {error}") from error
    return True


def _check_shapes(case: _Case) -> None:
    """Finite rows of the stated width, in training and in prediction, whatever the size of the batch."""
    encoder = case.build()
    assert len(encoder.stages) >= 1, "there are no stages"
    for source in case.inputs:
        for n in (_ROWS, 2, 1):
            rows = case.rows(source, n)
            for mode in (True, False):
                out = encoder.train(mode)(rows, source)
                assert out.ndim == 2, f"{source}: got {tuple(out.shape)} for {n} rows"
                assert out.shape[1] == encoder.width, f"{source}: got {tuple(out.shape)}, width {encoder.width}"
                fits = len(out) in _lengths(encoder, rows)
                assert fits, f"{source}: got {len(out)} rows for {n}, not {_lengths(encoder, rows)}"
                assert bool(out.isfinite().all()), f"{source}: not finite"


def _lengths(encoder: Encoder, rows: Inputs) -> Sequence[int]:
    """How many rows may come out: padding after the longest row of a batch may be left out or not."""
    n = length(rows) * encoder.n_members
    if not (encoder.has_elements or encoder.has_pixels):
        return (n,)
    there = encoder.presence()(rows)
    if encoder.has_pixels:
        return (n * (there[0].numel() + 1),)
    longest = int(there.any(0).nonzero().max()) + 1
    return [n * k for k in range(longest, there.shape[1] + 1)]


def _check_gradients(case: _Case) -> None:
    """Every parameter gets a finite gradient, and those above the first stage get it from every source."""
    encoder = case.build().train()
    trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    reached: set[str] = set()
    for source in case.inputs:
        torch.manual_seed(1)
        loss = encoder(case.rows(source), source).square().sum()
        found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True) if trained else ()
        mine = {name: grad for name, grad in zip(trained, found, strict=True) if grad is not None}
        broken = [name for name, grad in mine.items() if not bool(grad.isfinite().all())]
        assert not broken, f"{source}: the gradient of {broken[0]} is not finite"
        above = {id(p) for p in chain.from_iterable(stage.parameters() for stage in list(encoder.stages)[1:])}
        left = [name for name, p in trained.items() if id(p) in above and name not in mine]
        assert not left, f"{source} does not reach {left[0]}"
        reached |= set(mine)
    assert reached == set(trained), f"nothing reaches {sorted(set(trained) - reached)[0]}"


def _check_same(case: _Case) -> None:
    """A seed makes one network; saving, loading and copying keep it; prediction leaves nothing to chance."""
    encoder, other = case.build().eval(), case.build(seed=1).eval()
    again = case.build().eval()
    twin = copy.deepcopy(encoder)
    other.load_state_dict(encoder.state_dict())
    for source in case.inputs:
        rows = case.rows(source)
        kept = copy.deepcopy(rows)
        expected = encoder(rows, source)
        for what, one in (("twice", encoder), ("same seed", again), ("loaded", other), ("copied", twin)):
            assert torch.allclose(one(rows, source), expected, atol=1e-6), f"{source}: {what}, and the answers differ"
        assert all(torch.equal(a, b) for a, b in zip(_tensors(rows), _tensors(kept), strict=True)), "inputs are changed"


def _check_rows_apart(case: _Case) -> None:
    """In prediction a row does not depend on the others of its batch, and NaN in one spoils it alone."""
    model = case.model()
    for source in case.inputs:
        rows = case.rows(source)
        clean = model(rows, source=source)["a"]
        _near(model(take(rows, 2), source=source)["a"], clean[:2], f"{source}: rows in a smaller batch")
        _near(model(take(rows, 1), source=source)["a"], clean[:1], f"{source}: a row alone")
        _near(model(every(rows, lambda t: t.flip(0)), source=source)["a"].flip(0), clean, f"{source}: another order")
        if any(t.is_floating_point() for t in _tensors(rows)):
            spoiled = model(numbers(rows, spoil_first), source=source)["a"]
            _near(spoiled[1:], clean[1:], f"{source}: rows beside one of NaN")
            assert not bool(spoiled[0].isfinite().all()), f"{source}: the row of NaN got an answer"


def _check_sharing(case: _Case) -> None:
    """Hard sharing may split it after any stage."""
    n = len(case.build().stages)
    for k in sorted({0, n // 2, n}):
        model = case.model(k / n)
        assert model.sharing.split == k, f"split at {model.sharing.split}, not at {k} of {n} stages"
        for source in case.inputs:
            for task, out in model(case.rows(source), source=source).items():
                assert out.shape[0] == _ROWS, f"{task} got {len(out)} answers for {_ROWS} rows of {source}"
                assert bool(out.isfinite().all()), f"{task} is not finite for {source}, split at {k}"


def _check_export(case: _Case) -> None:
    """It exports, with a batch of any size, if it says so."""
    first, *_, last = (*case.inputs, *case.inputs)
    if not case.cls.exports or (first != last and case.inputs[first] == case.inputs[last]):
        return  # sources that are alike have one graph, and that of one source is tried
    rows = case.rows(last)
    model = _OneSource(case.model(), last).eval()
    batch = torch.export.Dim("batch", min=1)
    dynamic = {0: batch} if isinstance(rows, Tensor) else {name: {0: batch} for name in rows}
    with quiet():
        exported = torch.export.export(model, (rows,), dynamic_shapes=(dynamic,)).module()
    for n in (1, 7):
        others = case.rows(last, n)
        _near(exported(others), model(others), f"{last}: the exported program on {n} rows")


class _OneSource(nn.Module):
    def __init__(self, model: MultiTaskModel, source: str):
        super().__init__()
        self.model, self.source = model, source

    def forward(self, inputs: Inputs) -> Tensor:
        out: Tensor = self.model(inputs, source=self.source)["a"]
        return out


def _tensors(rows: Inputs) -> list[Tensor]:
    return [rows] if isinstance(rows, Tensor) else list(rows.values())


def _near(got: Tensor, expected: Tensor, what: str) -> None:
    close = torch.allclose(got, expected, atol=1e-4, rtol=1e-4)
    assert close, f"{what} got other answers, by {(got - expected).abs().max():.2g}."


_CHECKS: tuple[Callable[[_Case], None], ...] = (
    _check_shapes,
    _check_gradients,
    _check_same,
    _check_rows_apart,
    _check_sharing,
    _check_export,
)
