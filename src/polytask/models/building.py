"""From a specification to its network."""

from __future__ import annotations

from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders import registry as encoders
from polytask.models.encoders.encoder import Encoder
from polytask.models.limits import check_limits
from polytask.models.model import MultiTaskModel
from polytask.models.sharing import registry as sharings
from polytask.models.sharing.sharing import Sharing
from polytask.models.source_norms import give_own_norms
from polytask.models.spec import ModelSpec, check_encoder
from polytask.models.views import read_shapes

__all__ = ["build_model"]


def build_model(spec: ModelSpec, module: nn.Module | None = None) -> MultiTaskModel:
    """Build the network of a specification, with newly drawn parameters.

    Args:
        spec: What to build.
        module: The user's network, for the ``module`` encoder.

    Raises:
        UnknownNameError: If the encoder or the sharing is not known.
        RecipeError: If an option is not one of theirs, or out of its range.
    """
    check_encoder(spec)
    check_limits(f"encoder {spec.encoder!r}", spec.encoder_options)
    check_limits(f"sharing {spec.sharing!r}", spec.sharing_options)
    options = dict(spec.encoder_options)
    if module is not None:
        options["module"] = module
    encoder: Encoder = encoders.create(
        spec.encoder, read_shapes(spec.inputs, list(spec.n_outputs), spec.views), **options
    )
    sharing: Sharing = sharings.create(spec.sharing, encoder, list(spec.n_outputs), **spec.sharing_options)
    if spec.own_norms:
        give_own_norms(sharing, spec.own_norms)
    hidden = {task: spec.head_hidden_of.get(task, spec.head_hidden) for task in spec.n_outputs}
    heads = sharing.make_heads(spec.n_outputs, hidden)
    _check_elements(spec, sharing)
    return MultiTaskModel(sharing, heads, spec.views, spec.inputs, spec.links, spec.corruptions, spec.element_tasks)


def _check_elements(spec: ModelSpec, sharing: Sharing) -> None:
    """Raise if what answers for each element and what answers for rows make an answer together."""
    for task in spec.n_outputs:
        if len({other in spec.element_tasks for other in sharing.combined_from(task)}) > 1:
            raise RecipeError(
                f"Sharing {spec.sharing!r} makes the answer of {task!r} out of others, some of which are of rows and "
                "some of their elements. Take another sharing, such as hard or mmoe."
            )
