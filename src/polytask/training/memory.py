"""When memory runs out in a step: the batch goes through the network in smaller pieces from then on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from polytask.balancing.balancer import Balancer
from polytask.balancing.outcome import Outcome
from polytask.data.batch import Batch
from polytask.errors import TrainingError
from polytask.shapes import Tensor
from polytask.training.optimisation import Optimisation
from polytask.training.passes import Passes
from polytask.training.position import Position

__all__ = ["InPieces", "ran_out"]

_WORDS = ("out of memory", "can't allocate memory", "not enough memory")
"""What PyTorch's allocators say; only that of accelerators has an error of its own."""


class InPieces:
    """Makes the gradient of a step, in twice as many pieces of the batch each time that memory runs out.

    What the failed attempt changed is put back before the next one: running statistics, generators, the balancer's
    state. So the training goes on as one with so many pieces from this step on (``training.accumulate``), whose results
    are the same to rounding, but for the masks of dropout and the statistics of batch normalisation, which are those of
    a piece. In data parallel the others would wait, so that it ends there.

    Args:
        passes: Make the gradient.
        optimisation: Holds it.
    """

    def __init__(self, passes: Passes, optimisation: Optimisation):
        self.passes, self.optimisation = passes, optimisation
        self.halved = 0
        self._buffers = [*passes.model.buffers()]

    def __call__(self, batches: Sequence[Batch], at: Position) -> Outcome:
        """The gradient in ``.grad``.

        Raises:
            TrainingError: If memory runs out though the pieces have two rows, or the batch cannot be divided.
        """
        before = self._state()
        while True:
            try:
                return self.passes(batches, at, self.optimisation.scaler)
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
                why, reason = self.passes.why_whole(), str(error).splitlines()[0] if str(error) else "MemoryError"
            # Outside of the handler, which holds on to all that the failed attempt had made.
            self._halve(max(map(len, batches)), at, why, reason)
            self._put_back(before)

    def _halve(self, n_rows: int, at: Position, why: str, reason: str) -> None:
        model = self.passes.model
        pieces = 2 * max(model.pieces, 1)
        if why or pieces > max(n_rows // 2, 1):
            raise TrainingError(
                f"Step {at.step}: memory ran out ({reason}), and a batch of {n_rows} rows cannot go through the "
                f"network in smaller pieces{': ' + why if why else ''}. Make training.batch_size or the network "
                "smaller; the last checkpoint is whole."
            )
        self.halved += 1
        self.passes.divide(pieces)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _state(self) -> dict[str, Any]:
        """What the passes of a step change besides gradients."""
        passes = self.passes
        return {
            "generator": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "buffers": [buffer.clone() for buffer in self._buffers],
            "balancer": {name: value.clone() for name, value in passes.balancer.state_dict().items()},
            "calls": passes.balancer.calls,
            "constraints": copy.deepcopy(passes.constraints.state_dict()) if passes.constraints.bounds else None,
            "skips": passes.skips.copy(),
        }

    @torch.no_grad()
    def _put_back(self, state: dict[str, Any]) -> None:
        passes = self.passes
        torch.set_rng_state(state["generator"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        for buffer, before in zip(self._buffers, state["buffers"], strict=True):
            buffer.copy_(before)
        _restore(passes.balancer, state["balancer"])
        passes.balancer.calls = state["calls"]
        if state["constraints"] is not None:
            passes.constraints.load_state_dict(state["constraints"])
        passes.skips = state["skips"].copy()
        self.optimisation.optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, int]:
        """How the next step is divided."""
        return {"halved": self.halved, "pieces": self.passes.model.pieces}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.halved = state["halved"]
        if self.halved:
            self.passes.divide(state["pieces"])


def _restore(balancer: Balancer, state: Mapping[str, Tensor]) -> None:
    """Put back what the balancer held, and let go of what it has allocated since."""
    for prefix, module in [*balancer.named_modules()]:
        path = f"{prefix}." if prefix else ""
        if "kept" in module._modules and not any(name.startswith(f"{path}kept.") for name in state):
            del module._modules["kept"]
    for name, now in balancer.state_dict(keep_vars=True).items():
        if now.shape == state[name].shape:
            now.copy_(state[name])
        else:  # as long as the gradient since the first step
            prefix, _, key = name.rpartition(".")
            balancer.get_submodule(prefix)._buffers[key] = state[name].clone()


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out.

    Example:
        >>> ran_out(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")), ran_out(RuntimeError("no"))
        (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)
