"""Data: any table, array, folder or data set to batches of tensors, with missing labels anywhere."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "tables": ("Table", "open_table", "read_table"),
    "transform": ("TableTransform",),
    "batch": ("ArraySource", "Batch", "Source"),
    "labels": ("fit_tasks", "labels_of"),
    "sources": ("RowsOf", "array_source", "table_source"),
    "datasets": ("DatasetContents", "DatasetSource", "read_dataset"),
    "images": ("ImageFolder", "read_idx", "read_idx_images", "read_image_folder"),
    "audio": ("Recordings", "read_recordings", "write_wav"),
    "digits": ("spoken_digits",),
    "loudness": ("heard", "spectrograms"),
    "mixtures": ("Mixtures", "mixed", "separated"),
    "syllables": ("spoken_strings", "spoken_syllables"),
    "conll": ("Sentence", "read_conll"),
    "sentences": ("made_up_reviews", "made_up_sentences"),
    "marking": ("between_marks", "marked", "paired"),
    "events": ("Event", "event_rows", "find_events"),
    "answers": ("AnswerTransform",),
    "pretrained": ("PretrainedVocabulary",),
    "text": ("TextTransform", "words_of"),
    "vocabulary": ("Vocabulary",),
    "splits": ("Split", "given_split", "holdout", "k_folds"),
    "checks": ("check_targets", "input_columns"),
    "sampler": ("Sampler",),
    "plan": ("BatchPlan", "Draw"),
    "negatives": ("sampled_negatives",),
    "streamed": ("RowGroups", "StreamedSource"),
    "generators": ("Synthetic", "clustered_tasks", "impressions", "mmoe_synthetic", "related_regressions"),
    "bundled": ("BundledTable", "bundled_digits", "bundled_names", "load_bundled"),
    "scenes": ("OverlappingDigits", "Scenes", "composed_scenes", "overlapping_digits"),
    "rendered": ("RenderedLetters", "rendered_letters"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
