"""The library that splits texts, when it is asked for."""

from __future__ import annotations

from typing import Any

from polytask.errors import MissingExtraError

__all__ = ["tokenizers_library"]


def tokenizers_library() -> Any:
    """The library that splits texts.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise MissingExtraError("reading texts", "tokenizers", "text") from error
    return tokenizers
