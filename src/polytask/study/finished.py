"""Networks of a unit that were trained before the whole unit was done: a kill costs a stack, and not the unit."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from polytask.bundle import Bundle, Network
from polytask.data.batch import ArraySource
from polytask.errors import NonFiniteError, RunFolderError, StorageError
from polytask.storage import load_tree, save_tree
from polytask.training.building import network_of
from polytask.training.run import Fitted
from polytask.training.stacked import Asked, fit_stacked

__all__ = ["FinishedNetworks"]

_PLAIN = ("history", "epochs", "best_epoch", "seconds", "sampling", "parameters", "metrics", "notes", "validation")
"""What of a :class:`~polytask.training.run.Fitted` is written as it is."""


class FinishedNetworks:
    """Trains the networks of a unit, keeps each in a file as soon as its stack is done, and trains none of these again.

    Args:
        folder: The unit's own folder; ``None`` keeps nothing.

    Note:
        A network comes back from its file bit for bit, and stacks are made up as if nothing were known, so that what
        is trained after an interruption is what would have been trained without one. A file that was written for
        another plan or other rows is passed over.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder

    def fit(self, asked: Sequence[Asked]) -> list[Fitted | NonFiniteError]:
        """The trained networks, or the errors that stopped them.

        Raises:
            RunFolderError: If a file is damaged.
            StorageError: If a file cannot be written.
        """
        if self.folder is None or not asked:
            return fit_stacked(asked).fitted
        known = {i: self._load(i, one) for i, one in enumerate(asked) if self._path(i).exists()}
        found = {i: fitted for i, fitted in known.items() if fitted is not None}
        return fit_stacked(asked, known=found, done=lambda i, fitted: self._keep(i, asked[i], fitted)).fitted

    def forget(self) -> None:
        """Take the files away; the unit is done."""
        if self.folder is not None and self.folder.exists():
            shutil.rmtree(self.folder)

    def _path(self, i: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{i}.safetensors"

    def _keep(self, i: int, asked: Asked, fitted: Fitted | NonFiniteError) -> None:
        if isinstance(fitted, NonFiniteError):
            tree: dict[str, Any] = {"error": str(fitted)}
        elif asked.plan.encoder == "module" or len(fitted.bundle.models) > 1 or fitted.sequence or fitted.constraints:
            return  # there is more to it than a network of the plan
        else:
            tree = {name: getattr(fitted, name) for name in _PLAIN} | {"network": dict(fitted.model.state_dict())}
        self._path(i).parent.mkdir(parents=True, exist_ok=True)
        save_tree(self._path(i), {"of": _fingerprint(asked), **tree})

    def _load(self, i: int, asked: Asked) -> Fitted | NonFiniteError | None:
        try:
            tree = load_tree(self._path(i))
        except StorageError as error:
            raise RunFolderError(f"{error} Remove the file, and its network is trained again.") from error
        if tree.pop("of") != _fingerprint(asked):
            return None
        if "error" in tree:
            return NonFiniteError(tree["error"])
        prepared = asked.prepared
        with torch.random.fork_rng(devices=[]):  # the parameters that are drawn are thrown away
            spec, model = network_of(prepared, asked.plan)
        model.load_state_dict(tree.pop("network"))
        networks = [Network(spec, model.eval())]
        encodings: dict[str, Any] = {"texts": prepared.texts, "files": prepared.files}
        bundle = Bundle(prepared.tasks, networks, prepared.transforms, tree["metrics"], **encodings)
        return Fitted(bundle=bundle, model=model, **tree)


def _fingerprint(asked: Asked) -> str:
    """Of the plan, the tasks and the rows of a training."""
    prepared = asked.prepared
    options = [[task.options(), task.state()] for task in prepared.tasks]
    digest = hashlib.sha256(repr((asked.plan, options, torch.__version__)).encode())
    for sources in (prepared.train, prepared.validation):
        for name, source in sources.items():
            digest.update(f"{name} {len(source)}".encode())
            if isinstance(source, ArraySource):
                inputs = {"": source.inputs} if isinstance(source.inputs, torch.Tensor) else source.inputs
                for field in (inputs, source.targets, source.observed):
                    for key in sorted(field):
                        digest.update(key.encode() + field[key].contiguous().numpy().tobytes())
    return digest.hexdigest()
