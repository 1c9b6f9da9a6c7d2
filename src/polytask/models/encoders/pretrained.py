"""A language model that was trained elsewhere, from a folder on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from polytask.errors import InputError, MissingExtraError, RecipeError
from polytask.models.encoders._words import WordEncoder, trimmed
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape
from polytask.shapes import Bool, Float, Inputs, Int, Tensor

__all__ = ["Pretrained"]


class Pretrained(Encoder):
    """A model of the ``transformers`` library over the pieces of words; a word's vector is that of its first piece.

    Goes with :class:`polytask.data.PretrainedVocabulary` of the same folder. The sharing ``lora`` with ``freeze: true``
    leaves the model as it is and learns a low-rank change of it, for each task or for all.

    Args:
        inputs: Shape of each source's words and pieces.
        path: The model's folder: ``config.json``, weights as safetensors, ``tokenizer.json``.
        freeze: Whether its weights stay as they are, with any sharing.

    Shape:
        codes ``[B, L]`` and ``[B, L, P]`` -> ``[B * L', width]``

    Raises:
        InputError: If the inputs are no words with pieces, or a text has more pieces than the model reads.
        RecipeError: If the folder holds no model that can be loaded, or its vocabulary is another.
        MissingExtraError: If ``transformers`` is not installed.

    Example:
        In a recipe, with ``TextData(..., vocabulary=PretrainedVocabulary("models/small"))`` as its data::

            encoder: {name: pretrained, path: models/small}
            sharing: {name: lora, rank: 8, freeze: true}

    Note:
        Nothing is ever downloaded, and no code of the folder runs. A bundle holds the weights, but the folder must
        still be there, for its configuration, when a bundle is loaded.
        It does not export: transformers runs the model, from the configuration in the folder. A pass is one of the
        whole model over all pieces of the texts, frozen or not.

    References:
        Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019, section 5.3 (the first piece
        of each word).
    """

    has_elements = True
    why_no_export: ClassVar[str] = "the language model is run by transformers, from the configuration in its folder"

    def __init__(self, inputs: Mapping[str, InputShape], path: str | os.PathLike[str], freeze: bool = False):
        super().__init__(inputs)
        folder = Path(path)
        model = _loaded(folder)
        for source, shape in inputs.items():
            field = shape.fields.get("pieces")
            if field is None or len(field.shape) != 2 or not field.cardinalities:
                raise InputError(f"The encoder 'pretrained' reads words and their pieces; source {source!r} has none.")
            if field.cardinalities[0] - 1 > model.config.vocab_size:
                raise RecipeError(
                    f"Source {source!r} has {field.cardinalities[0] - 1} pieces and the model of {folder} knows "
                    f"{model.config.vocab_size}: give TextData the PretrainedVocabulary of the same folder."
                )
        if freeze:
            model.requires_grad_(False)
        begin, end = _marks(folder)
        self.stages = nn.ModuleList([trimmed(inputs).followed_by(nn.Sequential(_Pieces(model, begin, end)))])
        self.width = int(model.config.hidden_size)

    @staticmethod
    def present(inputs: Inputs) -> Bool[Tensor, "B L"]:
        """Which words are there."""
        return WordEncoder.present(inputs)


class _Pieces(nn.Module):
    """Codes ``[B, L, 1 + P]`` to the vectors of the words' first pieces, ``[B * L, D]``."""

    is_trained = True

    def __init__(self, model: nn.Module, begin: int | None, end: int | None):
        super().__init__()
        self.model, self.begin, self.end = model, begin, end
        self.longest = int(getattr(model.config, "max_position_embeddings", 0)) or None

    def forward(self, codes: Int[Tensor, "B L C"]) -> Float[Tensor, "BL D"]:
        pieces = codes[..., 1:]
        counts = (pieces > 0).sum((1, 2))
        first = int(self.begin is not None)
        width = first + int(counts.max()) + int(self.end is not None)
        if self.longest is not None and width > self.longest:
            raise InputError(f"A text has {width} pieces and the model reads {self.longest}: give TextData `longest`.")
        ids = torch.zeros(len(codes), max(width, 1), dtype=torch.int64, device=codes.device)
        flat = pieces.flatten(1)
        places = (flat > 0).cumsum(1) - 1 + first
        rows, at = (flat > 0).nonzero(as_tuple=True)
        ids[rows, places[rows, at]] = flat[rows, at] - 1
        mask = torch.arange(ids.shape[1], device=codes.device) < (counts + width - int(counts.max()))[:, None]
        if self.begin is not None:
            ids[:, 0] = self.begin
        if self.end is not None:
            ids[torch.arange(len(ids)), counts + first] = self.end
        hidden: Tensor = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        heads = places[:, :: pieces.shape[2]].clamp(0, ids.shape[1] - 1)
        return hidden.gather(1, heads.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])).flatten(0, 1)


def _loaded(folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        raise RecipeError(f"{str(folder)!r} holds no model: it has no config.json. Give the folder it was saved in.")
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("the encoder 'pretrained'", "transformers", "pretrained") from error
    said = transformers.utils.logging
    had_bar = said.is_progress_bar_enabled()
    said.disable_progress_bar()  # a second of work, and a bar of its own among those of the training
    try:
        return transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise RecipeError(f"The model in {folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    finally:
        if had_bar:
            said.enable_progress_bar()


def _marks(folder: Path) -> tuple[int | None, int | None]:
    """The pieces that the model expects before and after a text."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise RecipeError(f"{folder} has no tokenizer.json, which says what stands before and after a text.")
    found = Tokenizer.from_file(str(file)).encode("a")
    special = found.special_tokens_mask
    begin = found.ids[0] if len(special) > 1 and special[0] else None
    return begin, found.ids[-1] if len(special) > 1 and special[-1] else None
