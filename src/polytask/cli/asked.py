"""Options that several verbs ask for in the same words."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Data", "Drop", "Group", "Inputs", "Json", "Resume", "Targets"]

Data = Annotated[
    Path,
    typer.Argument(
        help="A table (CSV, TSV, JSON lines, Parquet, Arrow); a folder or zip archive of images or recordings; or a "
        "recipe (.yaml, .yml, .json)."
    ),
]
Targets = Annotated[
    str, typer.Option(help="Target columns: a,b,c. Give a kind with a colon: visits:count,price:regression.")
]
Group = Annotated[str, typer.Option(help="Column of groups (patient, user): no group is on both sides.")]
Inputs = Annotated[str, typer.Option(help="Input columns: x,y. All but targets and dropped ones if left out.")]
Drop = Annotated[str, typer.Option(help="Columns that no task may read: id,name.")]
Resume = Annotated[bool, typer.Option(help="Go on in a folder that exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON, and nothing else.")]
