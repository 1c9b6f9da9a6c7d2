"""A recipe: a whole run as data. Load it, save it, hash it, run it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from polytask.errors import RecipeError, UnknownNameError
from polytask.options import in_words
from polytask.recipe.specs import Choice, ReadsSpec, SourceSpec, SplitSpec
from polytask.storage import write_text

if TYPE_CHECKING:
    from polytask.training.running import Run

__all__ = ["Recipe"]


class Recipe(BaseModel):
    """A whole run as data.

    Args:
        tasks: Options of each task by name, ``kind`` among them (inferred if left out), and how it is trained beside
            the others, see :class:`polytask.training.task_control.TaskControl`; a list of names is enough.
        data: The data sets by name; a path if there is only one.
        encoder: How inputs become a representation; ``auto`` takes ``tabm`` for tables and ``cnn`` for images.
        sharing: Which parts serve which tasks.
        balancer: How losses become one gradient.
        sampler: How several sources are mixed.
        schedule: Which tasks are trained when: all at once, or in stages, with remedies against forgetting:
            ``{name: sequential, remedies: [{name: ewc, strength: 400}]}``.
        head_hidden: Widths of hidden layers in every head.
        split: How rows are divided.
        constraints: What the training keeps, such as ``A.loss<=0.3``, see
            :func:`polytask.training.constraint_spec.read_constraint`.
        multipliers: How hard the constraints pull.
        training: Settings of the training, see :class:`polytask.training.settings.Settings`; for tables batch size,
            learning rate, weight decay and stop rule follow the number of rows where they are not given.
        seed: Of everything random.

    Raises:
        RecipeError: If a setting is unknown or contradicts another.

    Example:
        >>> recipe = Recipe(tasks=["heating", "cooling"], data="energy.csv", sharing="hard", training={"epochs": 5})
        >>> print(recipe.to_yaml())
        tasks:
          heating: {}
          cooling: {}
        data:
          data:
            path: energy.csv
        training:
          epochs: 5
        <BLANKLINE>
        >>> Recipe.from_yaml(recipe.to_yaml()) == recipe
        True
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tasks: dict[str, dict[str, Any]]
    data: dict[str, SourceSpec] = {}
    encoder: Choice = Choice(name="auto")
    sharing: Choice = Choice(name="hard")
    balancer: Choice = Choice(name="equal")
    sampler: Choice = Choice(name="proportional")
    schedule: Choice = Choice(name="joint")
    head_hidden: list[Annotated[int, Field(ge=1)]] = []
    constraints: list[Any] = []
    multipliers: Choice = Choice(name="augmented_lagrangian")
    split: SplitSpec = SplitSpec(validation=0.15, test=0.2)
    training: dict[str, Any] = {}
    seed: int = 0

    def __init__(self, **settings: Any):
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise RecipeError(_in_words(error)) from None

    @field_validator("tasks", mode="before")
    @classmethod
    def _tasks(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list | tuple):
            for entry in value:
                if not isinstance(entry, str | Mapping):
                    raise ValueError(f"each task needs a name, or a mapping with its options and name; got {entry!r}.")
            named = [{"name": entry} if isinstance(entry, str) else dict(entry) for entry in value]
            names = [str(entry.get("name", f"task {i}")) for i, entry in enumerate(named)]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"each task needs a name of its own; {', '.join(twice)} comes twice.")
            return {entry.pop("name", f"task {i}"): entry for i, entry in enumerate(named)}
        if isinstance(value, Mapping):
            return {name: _options(name, entry) for name, entry in value.items()}
        return value

    @field_validator("encoder", "sharing", "balancer", "sampler", "schedule", "multipliers", mode="before")
    @classmethod
    def _choice(cls, value: Any, info: ValidationInfo) -> Any:
        """Options without a name are those of the default."""
        default = cls.model_fields[str(info.field_name)].default.name
        if isinstance(value, Mapping) and "name" not in value:
            return {"name": default, **value}
        if not isinstance(value, str | Mapping | Choice):
            raise ValueError(f"it needs a name, such as {default!r}, or {{'name': {default!r}, ...}}; got {value!r}")
        return value

    @field_validator("constraints", mode="before")
    @classmethod
    def _constraints(cls, value: Any) -> Any:
        from polytask.training.constraint_spec import read_constraint

        given = [value] if isinstance(value, str | Mapping) else value
        return [read_constraint(one).plain() for one in given] if isinstance(given, list | tuple) else given

    @field_validator("data", mode="before")
    @classmethod
    def _data(cls, value: Any) -> Any:
        if isinstance(value, str | Path):
            return {"data": {"path": str(value)}}
        if isinstance(value, Mapping) and "path" in value and isinstance(value["path"], str | Path):
            return {"data": dict(value)}
        return value

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        from polytask.training.settings import Settings
        from polytask.training.task_control import task_control

        if not self.tasks:
            raise ValueError("it needs at least one task, such as `tasks: [price]`")
        Settings.from_options({**self.training, "seed": self.seed})
        for name, options in self.tasks.items():
            task_control(name, options)
        return self

    def source(self, name: str) -> SourceSpec:
        """Settings of a source; the defaults if the recipe has none of that name."""
        return self.data.get(name, SourceSpec())

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe file, YAML or JSON.

        Raises:
            RecipeError: If it cannot be read, or holds no recipe.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"Cannot read the recipe {path}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"The recipe {path} is no text in UTF-8. Save it as UTF-8.") from error
        return cls._from_text(text, str(path))

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Read YAML (or JSON, which is YAML)."""
        return cls._from_text(text, "the recipe")

    @classmethod
    def _from_text(cls, text: str, origin: str) -> Recipe:
        try:
            settings = yaml.safe_load(text)
        except yaml.YAMLError as error:
            why = str(error).replace('"<unicode string>"', origin)  # what YAML calls a text without a file
            raise RecipeError(f"The recipe is no YAML: {why}") from error
        if not isinstance(settings, dict):
            raise RecipeError("A recipe is a mapping of settings, such as `tasks: [a, b]`.")
        return cls(**settings)

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it, settings at their defaults left out."""
        data = self.model_dump(exclude_defaults=True)
        for name in ("encoder", "sharing", "balancer", "sampler", "schedule", "multipliers"):
            if name in data:
                data[name] = getattr(self, name).plain()
        return data

    def to_yaml(self) -> str:
        """As a recipe file."""
        text: str = yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True)
        return text

    def save(self, path: str | Path) -> None:
        """Write a recipe file."""
        write_text(path, self.to_yaml())

    def hash(self) -> str:
        """A short hash of all settings; the same for recipes that say the same.

        The order of tasks and sources counts, because parameters are drawn in it.
        """
        said = [self.plain(), list(self.tasks), list(self.data)]
        text = json.dumps(said, sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def run(
        self,
        data: Any = None,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        compare: bool = False,
        module: Any = None,
        progress: Any = None,
    ) -> Run:
        """Train, and evaluate on the test rows.

        Args:
            data: The data, if the recipe names no files: a table, or by source name a table or a
                :class:`~polytask.training.data_sets.DataSet`.
            out: Run folder; nothing is written if ``None``.
            resume: Go on in a run folder that exists.
            compare: Also train one model a task, with the same budget.
            module: The user's network, for ``encoder="module"``.
            progress: A :class:`~polytask.training.progress.Progress`; silent if ``None``.

        Raises:
            PolytaskError: If data or settings cannot be used, or the training cannot go on.
        """
        from polytask.training.running import run

        return run(self, data, out=out, resume=resume, compare=compare, module=module, progress=progress)


def _options(name: str, given: Any) -> dict[str, Any]:
    """Options of a task whose name is the key; one among them, as `Task.options()` has it, must be the same."""
    if isinstance(given, str):
        return {"kind": given}
    options = dict(given or {})
    if (own := options.pop("name", name)) != name:
        raise ValueError(f"task {name!r} has options with the name {own!r}. Take that out, or make it the key.")
    return options


def _in_words(error: ValidationError) -> str:
    found = []
    for item in error.errors():
        *above, name = map(str, item["loc"] or ("",))
        if item["type"] != "extra_forbidden":
            continue
        of: dict[str, Any] = {"data": SourceSpec, "split": SplitSpec}
        model = ReadsSpec if above[-1:] == ["reads"] else of.get(above[0], Recipe) if above else Recipe
        if not above and name == "remedies":
            found.append(
                "Remedies belong to the schedule: schedule.remedies=[{name: ewc, strength: 1000}], or in a file "
                "schedule: {name: sequential, remedies: [{name: ewc, strength: 1000}]}."
            )
            continue
        found.append(str(UnknownNameError("setting", name, model.model_fields, ".".join(above))))
    others = [item for item in error.errors() if item["type"] != "extra_forbidden"]
    if others:
        found.append(in_words(others))
    return "The recipe cannot be used. " + "; ".join(found)
