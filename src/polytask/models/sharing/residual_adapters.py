"""Residual adapters: one trunk, and small modules of each task's own between its stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import UnknownNameError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._frozen import set_frozen, train_but_frozen
from polytask.models.sharing.sharing import Features, Sharing
from polytask.models.stages import ByName, run_stages, shapes_after
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["ResidualAdapters"]


class ResidualAdapters(Sharing):
    r"""One trunk for all tasks, and after each of its stages a small correction of each task's own.

    With stages :math:`f_l` and task matrices :math:`A_{t,l}` (1x1 convolutions on images),

    .. math:: h^l_t = u + A_{t,l}\, u, \qquad u = f_l(h^{l-1}_t),

    or, with a bottleneck of width :math:`r`, :math:`h^l_t = u + U_{t,l}\, \mathrm{ReLU}(D_{t,l}\, u)`.

    Args:
        encoder: The encoder; all its stages are the trunk.
        tasks: Names of the tasks.
        bottleneck: Width of the adapters' inner layer; 0 for full matrices.
        freeze: Whether the trunk stays as it is, for an encoder that is trained already.
        adapted: Tasks that have adapters; the others have the trunk as it is, as with hard sharing. All if empty.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        UnknownNameError: If a task that is to have adapters is none of the tasks.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8, 8))
        >>> sharing = ResidualAdapters(encoder, ["a", "b"], bottleneck=2)
        >>> x = torch.randn(3, 4)
        >>> bool((sharing(x)["a"] == encoder(x)).all())
        True

    Note:
        Adapters start at zero, so that every task starts with the trunk alone. The trunk's first stage runs once; its
        other stages, and the adapters, run on T times the rows in one batch. The trunk's normalisation layers are
        common to the tasks, where the paper gives each task its own.

    References:
        Rebuffi et al., "Learning Multiple Visual Domains with Residual Adapters", NeurIPS 2017, section 3.2;
        Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, section 2.1 (the bottleneck).
    """

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        bottleneck: int = 16,
        freeze: bool = False,
        adapted: Sequence[str] = (),
    ):
        super().__init__(encoder, tasks)
        for name in adapted:
            if name not in self.tasks:
                raise UnknownNameError("task", name, self.tasks, "residual adapters")
        self.trunk = nn.ModuleList(encoder.stages)
        source, shape = next(iter(encoder.inputs.items()))
        shapes = shapes_after(self.trunk, shape, source)
        self.is_image = [len(s) == 3 for s in shapes]
        channels = [s[0] if len(s) == 3 else s[-1] for s in shapes]
        self.adapters = ByName(
            {task: nn.ModuleList(_Adapter(c, bottleneck) for c in channels) for task in adapted or self.tasks}
        )
        self.freeze = freeze
        set_frozen(self.trunk, freeze)

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The first stage once, the others on a batch that holds each row once for each task with adapters."""
        adapted = [task for task in tasks if task in self.adapters]
        first, *others = self.trunk
        u = run_stages((first,), inputs, source)
        found: dict[str, Tensor] = {}
        if len(adapted) < len(tasks):
            # Apart from the adapted tasks, so that no bit depends on whether these run as well.
            found = dict.fromkeys(tasks, run_stages(others, u, source))
        if adapted:
            x = self._adapt(0, u.expand(len(adapted), *u.shape), adapted)
            for index, stage in enumerate(others, start=1):
                x = self._adapt(index, stage(x.flatten(0, 1)).unflatten(0, (len(adapted), -1)), adapted)
            found |= dict(zip(adapted, x.unbind(0), strict=True))
        return {task: found[task] for task in tasks}

    def _adapt(self, index: int, u: Float[Tensor, "T B ..."], tasks: Sequence[str]) -> Float[Tensor, "T B ..."]:
        adapters = [self.adapters[task][index] for task in tasks]  # type: ignore[index]
        channels_last = u.movedim(2, -1) if self.is_image[index] else u
        flat = channels_last.flatten(1, -2)
        if adapters[0].down is not None:
            flat = torch.bmm(flat, torch.stack([a.down for a in adapters]).transpose(1, 2)).relu()
        change = torch.bmm(flat, torch.stack([a.up for a in adapters]).transpose(1, 2)).view(channels_last.shape)
        return u + (change.movedim(-1, 2) if self.is_image[index] else change)

    def train(self, mode: bool = True) -> ResidualAdapters:
        """A frozen trunk stays as in prediction."""
        train_but_frozen(super().train(mode), self.trunk, self.freeze)
        return self

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk and the task's own adapters, if it has them."""
        own = self.adapters[task].parameters() if task in self.adapters else ()
        return [*self.trunk.parameters(), *own]


class _Adapter(nn.Module):
    """Parameters of one task's adapter after one stage; zero at the start."""

    def __init__(self, channels: int, bottleneck: int):
        super().__init__()
        self.down = None
        if bottleneck:
            self.down = nn.Parameter(torch.empty(bottleneck, channels).uniform_(-(channels**-0.5), channels**-0.5))
        self.up = nn.Parameter(torch.zeros(channels, bottleneck or channels))
