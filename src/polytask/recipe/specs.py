"""The parts of a recipe: methods by name, data sets, how rows are divided."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["Choice", "ReadsSpec", "SourceSpec", "SplitSpec"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(_Strict):
    """A method by name, with its options: ``mmoe``, or ``{name: hard, ratio: 0.5}``; the default's without a name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})

    def plain(self) -> str | dict[str, Any]:
        """The shortest form."""
        return {"name": self.name, **self.options} if self.options else self.name


class ReadsSpec(_Strict):
    """The one column that an encoder reads whole; its name is enough. See :class:`~polytask.data.reads.Reads`.

    Args:
        column: The column; ``file`` for those of a folder.
        form: ``pixels`` of image files, ``waves`` of WAV files, ``words`` of texts; by the cells if ``None``.
        pattern: For folders, a regular expression for the files' names, whose named groups become columns.
        side: Pixels a side that all images are brought to.
        seconds: How much of each recording is kept.
        rate: Samples a second that all recordings are brought to.
        longest: So many words of a text are read.
    """

    column: str = "file"
    form: Literal["pixels", "waves", "words"] | None = None
    pattern: str | None = None
    side: Annotated[int, Field(ge=1)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    rate: Annotated[int, Field(ge=1)] | None = None
    longest: Annotated[int, Field(ge=1)] = 200

    @model_validator(mode="before")
    @classmethod
    def _from_column(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value


class SourceSpec(_Strict):
    """One data set.

    Args:
        path: A CSV, Parquet, Arrow or JSON-lines file, or a folder or zip archive of image or WAV files; ``None`` when
            the data is given in Python.
        inputs: Input columns; all that are neither targets nor dropped if ``None``.
        drop: Columns that no task may read.
        row_weights: Column of factors on the losses of each row.
        allow: Inputs that may be copies of a target; others that are copies are an error.
        scaling: Of numbers: ``standard``, ``robust`` or ``quantile``.
        augment: How training batches are varied, one after another: ``mixup``, ``{name: noise, std: 0.2}``; see
            ``polytask list augmentations``.
        own_norms: Whether its rows have normalisation layers of their own in the network.
        importance: Weights of training rows: a column, or ``{to: SOURCE}`` for weights by which they stand for the rows
            of another source.
        kinds: Kinds of input columns where the inferred one is not wanted; ``hashed`` for identifiers, whose unseen
            values share codes, ``words`` for free text, ``molecule`` for SMILES, ``image`` for paths of image files.
        reads: The one column of files or texts that is all the encoder reads: ``review``, or ``{column: photo, side:
            64}``; for folders and archives what its files are, and what their names say.
        streamed: Whether the inputs stay in their files until a step needs them, for data larger than memory: Parquet
            tables, files, texts; or how many rows are shuffled together then, where they are read in blocks (200,000
            of Parquet tables, 20,000 of texts in them).
    """

    path: str | None = None
    inputs: list[str] | None = None
    drop: list[str] = []
    row_weights: str | None = None
    allow: list[str] = []
    scaling: str = "quantile"
    kinds: dict[str, str] = {}
    augment: list[Choice] = []
    own_norms: bool = False
    importance: str | dict[str, Any] | None = None
    reads: ReadsSpec | None = None
    streamed: bool | Annotated[int, Field(ge=1)] = False

    @field_validator("augment", mode="before")
    @classmethod
    def _augment(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": str(value)} if isinstance(value, str | Path) else value


class SplitSpec(_Strict):
    """How rows are divided.

    Args:
        method: ``random``; ``stratified`` over all tasks at once; ``grouped``: all rows of a group on one side;
            ``time``: the newest rows are the test rows; ``given``: the column says ``train``, ``validation`` or
            ``test``.
        column: Column of the groups, the times, or the parts.
        validation: Share of the rows for early stopping.
        test: Share of the rows for the final metrics, which training never sees.
    """

    method: Literal["random", "stratified", "grouped", "time", "given"] = "random"
    column: str | None = None
    validation: float = Field(0.15, ge=0, lt=1)
    test: float = Field(0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> SplitSpec:
        if self.method in ("grouped", "time", "given") and not self.column:
            raise ValueError(f"a {self.method} split needs a column: set split.column")
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation:g} and test {self.test:g} together leave no row for training: their sum "
                "must be below 1"
            )
        return self
