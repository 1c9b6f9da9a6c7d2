"""Many trainings in, as many trained models out: stacked where that can be, one by one where not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from polytask.errors import NonFiniteError
from polytask.training.loss_groups import groups_of
from polytask.training.preparation import Prepared
from polytask.training.progress import Progress, Silent
from polytask.training.run import Fitted, Plan, fit
from polytask.training.stacked.begun import Begun, begin, finish
from polytask.training.stacked.member import Member
from polytask.training.stacked.memory import bytes_of
from polytask.training.stacked.stack import Stack
from polytask.training.stacked.stackable import shape_of, why_alone, why_built_alone

__all__ = ["MEMORY", "Asked", "Stacked", "fit_stacked"]

MEMORY = 512 * 2**20
"""Bytes that a stack may take, if nothing else is said."""

MOST = 16
"""Members of a stack at most: more of them fall out of the caches, and nothing is won any more ..."""
SMALL = 64 * 2**20
"""... but for small networks, which are mostly calls: as many as take so many bytes together."""

_NO_OTHER = "there is no other of its shape"


@dataclass(frozen=True)
class Asked:
    """One training that is asked for.

    Args:
        prepared: Its data.
        plan: What to train.
        title: What it is called.
    """

    prepared: Prepared
    plan: Plan
    title: str = "joint"


@dataclass
class Stacked:
    """What came of the trainings.

    Args:
        fitted: For each training, in order, the trained model, or the error that stopped it.
        sizes: How many members each stack had.
        alone: For the trainings that were done by themselves, by position, why.
    """

    fitted: list[Fitted | NonFiniteError]
    sizes: list[int] = field(default_factory=list)
    alone: dict[int, str] = field(default_factory=dict)

    def describe(self) -> str:
        """What was stacked and what was not, in a sentence or two."""
        told = []
        if self.sizes:
            told.append(f"{sum(self.sizes)} trainings were done in {len(self.sizes)} stacks.")
        told += [f"{n} trained by themselves: {why}." for why, n in Counter(self.alone.values()).items()]
        return " ".join(told)


def fit_stacked(
    asked: Sequence[Asked],
    *,
    memory: int = MEMORY,
    most: int | None = None,
    progress: Progress | None = None,
    done: Callable[[int, Fitted | NonFiniteError], None] = lambda *_: None,
    known: Mapping[int, Fitted | NonFiniteError] | None = None,
) -> Stacked:
    """Train many networks, those of one shape at once as one program.

    Each is trained as :func:`polytask.training.run.fit` trains it: the same first parameters, batches, dropout masks,
    weights, early stopping and history, to rounding. A training whose loss becomes NaN or infinite stops no other: it
    leaves the stack and is done again by itself. What cannot be stacked is trained by itself; a note says so and why.

    Args:
        asked: The trainings.
        memory: Bytes that a stack may take: stacks are made as small as that takes, with at least one member.
        most: Members of a stack at most; 16 if ``None``, and more of small networks.
        progress: Told about each step of every member.
        done: Told the position and the result of each training as soon as its stack is done.
        known: By position, what ``done`` was told before an interruption; stacks are made up as if nothing were known,
            and a stack whose results are all known is not trained again.

    Raises:
        PolytaskError: If a name or an option is not known.

    Note:
        There is no checkpoint inside a stack; what is interrupted is trained again. ``seconds`` of a member is
        its share of the stack's time.
    """
    found = [(known or {}).get(i) for i in range(len(asked))]
    outcome = Stacked([])
    shapes: dict[str, list[int]] = {}

    def ready(i: int, result: Fitted | NonFiniteError) -> None:
        found[i] = result
        done(i, result)

    for i, one in enumerate(asked):
        if why := why_alone(one.prepared, one.plan):
            outcome.alone[i] = why
        else:
            shapes.setdefault(shape_of(one.prepared, one.plan), []).append(i)
    for positions in shapes.values():
        if len(positions) == 1:
            outcome.alone[positions[0]] = _NO_OTHER
            continue
        with _own_generator():
            probe = _begin(asked[positions[0]])[0]
        if why := why_built_alone(probe):
            outcome.alone |= dict.fromkeys(positions, why)
            continue
        each = bytes_of(probe)
        size = min(max(memory // each, 1), max(MOST, SMALL // each) if most is None else most)
        for chunk in _evenly(positions, size):
            outcome.sizes.append(len(chunk))
            if all(found[i] is not None for i in chunk):
                continue
            members = _train([asked[i] for i in chunk], progress or Silent())
            for i, member in zip(chunk, members, strict=True):
                if member.error is not None:
                    outcome.alone[i] = "a loss or a parameter was no number, or exploded, in the stack"
                else:
                    ready(i, finish(member.begun, member.history, [_note(len(chunk))]))
    for i, why in sorted(outcome.alone.items()):
        if found[i] is None:
            ready(i, _alone(asked[i], why, progress))
    outcome.fitted = [result for result in found if result is not None]
    return outcome


def _note(size: int) -> str:
    return f"{size} networks of one shape were trained at once." if size > 1 else "One network was trained at a time."


def _begin(asked: Asked) -> tuple[Begun, torch.Generator]:
    """The training, and a generator in the state in which its first step would find PyTorch's."""
    torch.manual_seed(asked.plan.settings.seed)
    begun = begin(asked.prepared, asked.plan)
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    return begun, generator


def _train(asked: Sequence[Asked], progress: Progress) -> list[Member]:
    with _own_generator():
        begun = [_begin(one) for one in asked]
    groups = groups_of(begun[0][0].prepared.tasks)
    members = [Member(mine, generator, groups) for mine, generator in begun]
    title = f"{len(members)} at once: {asked[0].title} ..." if len(members) > 1 else asked[0].title
    n_steps = sum(member.training.settings.epochs * member.training.feed.plan.n_steps for member in members)
    progress.start(title, n_steps, 0)

    def tell(steps: int) -> None:
        epoch = max(member.training.at.epoch for member in members)
        for _ in range(steps):
            progress.step(dict, epoch)

    try:
        Stack(members, tell).run()
    finally:
        progress.stop(f"{title}: done")
    return members


def _alone(asked: Asked, why: str, progress: Progress | None) -> Fitted | NonFiniteError:
    try:
        fitted = fit(asked.prepared, asked.plan, progress=progress, title=asked.title)
    except NonFiniteError as error:
        return error
    if why != _NO_OTHER:  # there was nothing to stack it with, which needs no note
        fitted.notes.append(f"Trained by itself and in no stack: {why}.")
    return fitted


def _evenly(positions: Sequence[int], size: int) -> Iterator[list[int]]:
    """Chunks of at most ``size``, as equal as can be."""
    n = -(-len(positions) // size)
    whole, rest = divmod(len(positions), n)
    start = 0
    for i in range(n):
        stop = start + whole + (i < rest)
        yield list(positions[start:stop])
        start = stop


@contextmanager
def _own_generator() -> Iterator[None]:
    """Inside, PyTorch's generator may be seeded; afterwards it is as it was."""
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)
