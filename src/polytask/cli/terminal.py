"""How results look in a terminal."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polytask.bundle import Bundle
    from polytask.records import ConstraintResult, ExtensionRecord, RunRecord, SequenceResult

__all__ = ["fail", "note", "print_inputs", "print_record", "print_table", "say"]

_MOST_INPUTS = 12
"""Input columns that are named after a training."""


def say(text: str) -> None:
    """Print a line of the answer."""
    print(text)


def note(text: str) -> None:
    """Print a line beside the answer, on standard error."""
    print(text, file=sys.stderr)


def fail(text: str) -> None:
    """Print what went wrong, on standard error, as one line."""
    print(f"polytask: {' '.join(text.split())}", file=sys.stderr)


def print_table(columns: list[str], rows: list[list[Any]], title: str = "") -> None:
    """Print a table; numbers to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for index, name in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=index == 0 or numeric, overflow="fold")
    for row in rows:
        table.add_row(*(number(value) for value in row))
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width, so nothing needs to be broken
        console = Console(width=max(120, Console(width=10_000).measure(table).maximum))
    console.print(table)


def number(value: Any) -> str:
    """A value as a person reads it: four significant digits, a dash for what is not there.

    Example:
        >>> number(0.123456), number(12345.6), number(None), number("text")
        ('0.1235', '12,346', '-', 'text')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_record(record: RunRecord) -> None:
    """The results of a run: a row per task, joint beside single, and what to know about them."""
    compared = any(result.single is not None for result in record.tasks.values())
    beside = any(result.joint is not None for result in record.tasks.values())
    others = [*(["joint"] if beside else []), *(["single", "better"] if compared else [])]
    columns = ["task", "kind", "metric", record.how, *others, "train labels", "test"]
    rows = []
    for name, result in record.tasks.items():
        joint = result.metrics.get(result.metric)
        arrow = "↑" if result.higher_is_better else "↓"
        row: list[Any] = [name, result.kind, f"{result.metric} {arrow}", joint]
        if beside:
            row.append((result.joint or {}).get(result.metric))
        if compared:
            single = (result.single or {}).get(result.metric)
            row += [single, _better(record.how, joint, single, result.higher_is_better)]
        rows.append([*row, result.n_train, result.n_test])
    print_table(columns, rows)
    if record.sequence is not None:
        _print_sequence(record, record.sequence)
    if record.extension is not None:
        _print_extension(record.extension)
    from polytask.wording import counted

    counts = record.parameters
    best = "" if record.best_epoch is None else f", best after {record.best_epoch + 1}"
    say(
        f"{counted(record.epochs, 'epoch')} in {record.seconds:.1f} s{best}; "
        f"parameters: {counts['shared']:,} shared, {counts['private'] + counts['heads']:,} of single tasks."
    )
    if record.sampling:
        say(f"An epoch: {record.sampling}.")
    if "processes" in record.environment:
        sent = record.environment.get("bytes_per_step", 0)
        processes = counted(record.environment["processes"], "process", "processes")
        say(f"Trained by {processes}; each gave {sent:,} bytes a step to be summed.")
    if record.constraints:
        _print_constraints(record.constraints)
    for text in record.notes:
        say(f"Note: {text}")
    if compared:
        say("One split is no proof: differences of this size may be chance.")


def print_inputs(bundle: Bundle) -> None:
    """The columns of tables that the model reads, which are all others than the targets if nobody said."""
    from polytask.wording import counted

    for name, transform in bundle.transforms.items():
        used = transform.used
        names = ", ".join(used[:_MOST_INPUTS]) + (", ..." if len(used) > _MOST_INPUTS else "")
        source = f" of {name}" if len(bundle.transforms) > 1 else ""
        say(f"Inputs{source}: {counted(len(used), 'column')}: {names} (leave columns out by --drop).")


def _better(how: str, joint: float | None, single: float | None, higher: bool) -> str:
    if joint is None or single is None or joint == single:
        return "-"
    return how if (joint > single) == higher else "single"


def _print_constraints(constraints: Mapping[str, ConstraintResult]) -> None:
    """Each bound, what was measured, and whether it is kept."""
    rows: list[list[Any]] = []
    for name, result in constraints.items():
        bound = f"{'≤' if result.is_upper else '≥'} {number(result.bound)}"
        error = result.error
        around = f" ± {1.96 * error:.2g}" if error is not None and math.isfinite(error) else ""
        test = f"{number(result.test)}{around}"
        rows.append([name, bound, result.value, test, result.multiplier, "kept" if result.is_kept else "broken"])
    rows_of = next(iter(constraints.values())).rows
    print_table(["constraint", "bound", rows_of, "test", "multiplier", "result"], rows)


def _print_extension(extension: ExtensionRecord) -> None:
    """What was added, where it started, and what changed for the old tasks."""
    from polytask.wording import counted

    for task, start in extension.start.items():
        found = list(extension.resemblance.get(task, {}).items())[:3]
        like = f"; resembles {', '.join(f'{name} {value:.2f}' for name, value in found)} (1 is most)" if found else ""
        say(f"Head of {task}: {start}{like}.")
    for start, losses in extension.starts.items():
        steps = [f"{when} {', '.join(number(v) for v in by.values())}" for when, by in losses.items() if by]
        if steps:
            say(f"Validation loss, {start} start: {'; '.join(steps)}.")
    if extension.is_frozen:
        if extension.rows_compared:
            names = ", ".join(extension.change)
            say(f"Old tasks ({names}): bit-equal outputs on {counted(extension.rows_compared, 'row')}, checked.")
        return
    rows = [[task, extension.change[task], *(found.get(task, {}).get("relative_error") for found in (
        extension.before, extension.after))] for task in extension.change]  # fmt: skip
    columns = ["old task", "largest change of an output", "relative error before ↓", "relative error after ↓"]
    print_table(columns, rows, "What changed for old tasks")


def _print_sequence(record: RunRecord, sequence: SequenceResult) -> None:
    """Every task's metric after every stage, and what the stages left."""
    rows: list[list[Any]] = []
    marks = {name: "↑" if result.higher_is_better else "↓" for name, result in record.tasks.items()}
    for name, found in [("(before)", sequence.before), *((stage.name, stage.metrics) for stage in sequence.stages)]:
        rows.append([name, *(found.get(task, {}).get(r.metric) for task, r in record.tasks.items())])
    tasks = [f"{name} {r.metric} {marks[name]}" for name, r in record.tasks.items()]
    print_table(["after stage", *tasks], rows, "Every task after every stage")
    kinds = [k for k in ("backward", "forgetting", "forward", "intransigence") if any(
        value is not None for value in getattr(sequence, k).values())]  # fmt: skip
    if kinds:
        # Metrics of different kinds have no mean.
        mean = ["mean"] if any(sequence.means.get(kind) is not None for kind in kinds) else []
        rows = []
        for kind in kinds:
            of_tasks = [getattr(sequence, kind).get(task) for task in record.tasks]
            rows.append([kind, *of_tasks, *([sequence.means.get(kind)] if mean else [])])
        print_table(["", *record.tasks, *mean], rows, "Transfer and forgetting (backward below 0: forgotten)")
