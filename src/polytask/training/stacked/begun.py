"""The two ends of a training that is a member of a stack: set up, and wrapped up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polytask.bundle import Bundle, Network
from polytask.models.spec import ModelSpec
from polytask.training.building import network_of
from polytask.training.evaluation import evaluate
from polytask.training.loop import Training
from polytask.training.preparation import Prepared
from polytask.training.run import Fitted, Plan, training_of

__all__ = ["Begun", "begin", "finish"]


@dataclass
class Begun:
    """A training that is set up.

    Args:
        prepared: The data.
        spec: The network as plain data.
        training: The training, at its first step.
    """

    prepared: Prepared
    spec: ModelSpec
    training: Training


def begin(prepared: Prepared, plan: Plan) -> Begun:
    """Set up a training of all tasks at once; parameters are drawn from PyTorch's generator.

    Raises:
        PolytaskError: If a name or an option is not known.
    """
    spec, model = network_of(prepared, plan)
    return Begun(prepared, spec, training_of(model, plan, prepared, plan.settings))


def finish(begun: Begun, history: list[dict[str, Any]], notes: Sequence[str] = ()) -> Fitted:
    """The trained network, tested and in a bundle."""
    prepared, training = begun.prepared, begun.training
    model, at = training.model, training.at
    held_out = prepared.test or prepared.validation
    metrics = evaluate(model, prepared.tasks, held_out) if held_out else {}
    fallbacks = sum(line["fallbacks"] for line in history)
    fell_back = [f"The balancer's solver fell back in {fallbacks} steps."] if fallbacks else []
    return Fitted(
        bundle=Bundle(
            prepared.tasks,
            [Network(begun.spec, model.eval())],
            prepared.transforms,
            metrics,
            texts=prepared.texts,
            files=prepared.files,
        ),
        model=model,
        history=history,
        epochs=at.epoch,
        best_epoch=at.best,
        seconds=at.seconds,
        sampling=training.feed.plan.describe(),
        parameters={
            **model.sharing.count_parameters(),
            "heads": sum(p.numel() for p in model.heads.parameters()),
        },
        metrics=metrics,
        notes=[*fell_back, *notes],
        validation=dict(history[at.epoch - 1 if at.best is None else at.best]["validation"]),
    )
