"""Writing a page: the template, the style, the scripts, one file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata, resources, util
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from polytask.affinity.record import AffinityRecord
from polytask.errors import DataError, MissingExtraError
from polytask.records import RunRecord, StudyRecord
from polytask.report import words
from polytask.report.affinity import affinity_view
from polytask.report.comparison import comparison_view
from polytask.report.figures import COLOURS
from polytask.report.gallery import Gallery, embedded
from polytask.report.run import run_view
from polytask.report.study import study_view
from polytask.storage import write_text

__all__ = ["load_record", "write_page"]

Record = StudyRecord | RunRecord | AffinityRecord

ROW_LIMIT = 24
CARD_LIMIT = 12
FEW_TASKS = 6
"""More tasks than these have the pictures of what a table says folded away."""

_SECTIONS = (
    ("verdict", "Verdict"),
    ("use", "What to use"),
    ("warnings", "Warnings"),
    ("arms", "All arms"),
    ("search", "Search"),
    ("curves", "Learning curves"),
    ("weights", "Weights"),
    ("conflict", "Conflict"),
    ("affinity", "Affinity"),
    ("answers", "Calibration"),
    ("coverage", "Labels"),
    ("gates", "Experts"),
    ("cost", "Cost"),
    ("left-out", "Left out"),
    ("formulas", "Definitions"),
    ("provenance", "Provenance"),
)

_OPTIONAL = {
    "search": "",
    "curves": "learning curves",
    "weights": "weights of the losses",
    "conflict": "conflict of the gradients",
    "affinity": "",
    "answers": "calibration and residuals",
    "gates": "use of experts",
    "left-out": "",
}
"""Sections that a record may have nothing for, as the page names what is not there."""


def write_page(
    records: Record | Sequence[Record],
    path: str | Path,
    *,
    names: Sequence[str] | None = None,
    charts: bool | None = None,
) -> Path:
    """Write the page of a record, or a comparison of several.

    Args:
        records: A study, a run, or several of either; or one record of affinity.
        path: The HTML file.
        names: What to call each record in a comparison; ``A``, ``B`` ... if left out.
        charts: Whether charts are drawn, which takes 4.7 MB of script in the file; if left out, they are where plotly
            is installed, and where it is not the page says so.

    Returns:
        The file.

    Raises:
        DataError: If there is no record, or not a name for each.
        MissingExtraError: If charts are asked for and plotly is not installed.
        StorageError: If the file cannot be written.
    """
    several = [records] if isinstance(records, StudyRecord | RunRecord | AffinityRecord) else list(records)
    if not several:
        raise DataError("A page needs at least one record.")
    if names is not None and len(names) != len(several):
        raise DataError(f"{len(several)} records need as many names; got {len(names)}.")
    there = util.find_spec("plotly") is not None
    if charts and not there:
        raise MissingExtraError("Drawing charts", "plotly", "page")
    if len(several) > 1:
        compared = [record for record in several if not isinstance(record, AffinityRecord)]
        if len(compared) < len(several):
            raise DataError("Records of affinity have pages of their own: give them one by one.")
        template, view = "comparison", comparison_view(compared, names)
    elif isinstance(several[0], AffinityRecord):
        template, view = "affinity", affinity_view(several[0])
    elif isinstance(several[0], StudyRecord):
        template, view = "study", study_view(several[0])
    else:
        template, view = "run", run_view(several[0])
    note = ""
    if not there and charts is None:
        note = (
            "Charts are left out, because plotly is not installed (pip install 'polytask[page]'); "
            "`polytask report` draws them later from the same record."
        )
    write_text(path, _render(template, view, with_charts=there if charts is None else charts, note=note))
    return Path(path)


def load_record(path: str | Path) -> Record:
    """The record of a run folder: a study (``study.json``), a training (``record.json``), affinity (``affinity.json``).

    Args:
        path: The folder, or the file itself.

    Raises:
        DataError: If there is no record, or it cannot be read.
    """
    given = Path(path)
    file = given
    if given.is_dir():
        file = next((given / name for name in _FILES if (given / name).exists()), given)
        if file == given and (given / "recipe.json").exists():
            raise DataError(
                f"{given} is a run that is not finished, and has no record yet. Go on with it by --resume: the same "
                f"command, --out {given} --resume."
            )
        if file == given:
            raise DataError(
                f"{given} has no record: neither study.json (polytask study) nor record.json (polytask fit), "
                "nor affinity.json (polytask affinity)."
            )
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        form: type[Record] = _FORMS.get(data.get("form"), RunRecord)
        return form.from_json(data)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; give a folder of `polytask study` or `polytask fit`.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"{file} is damaged or no record, which is a JSON file. Give a folder of `polytask study`, `polytask fit` "
            "or `polytask affinity`."
        ) from error
    except (OSError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged or no record: {error}") from error


_FILES = ("study.json", "record.json", "affinity.json")
_FORMS: dict[str | None, type[Record]] = {"study": StudyRecord, "affinity": AffinityRecord}


def _render(template: str, view: dict[str, Any], *, with_charts: bool, note: str) -> str:
    gallery: Gallery = view.setdefault("gallery", Gallery())
    drawn = with_charts and bool(gallery.data)
    scripts = [*([_plotly()] if drawn else []), _source("page.js")]
    data = {"figures": gallery.data if drawn else [], "tasks": view.pop("filter_tasks", [])}
    absent = {id: name for id, name in _OPTIONAL.items() if id not in view.get("present", ())}
    return (
        _environment()
        .get_template(f"{template}.html.jinja")
        .render(
            **view,
            title=view.get("title") or view["headline"],
            version=metadata.version("polytask"),
            css=Markup(_source("page.css")),
            scripts=[Markup(script) for script in scripts],
            script_hashes=" ".join(_hash(script) for script in scripts),
            page_data=Markup(embedded(data)),
            sections=[(id, name) for id, name in _SECTIONS if id not in absent],
            nothing_on=[name for name in absent.values() if name],
            with_charts=drawn,
            charts_note=note if gallery.data else "",
            row_limit=ROW_LIMIT,
            card_limit=CARD_LIMIT,
            few_tasks=FEW_TASKS,
        )
    )


def _source(name: str) -> str:
    return resources.files("polytask.report").joinpath("templates", name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    forms = (
        "amount",
        "breakable",
        "duration",
        "is_of_stacks",
        "listed",
        "number",
        "percent",
        "share",
        "span",
        "unbroken",
        "when",
    )
    made.filters |= {name: getattr(words, name) for name in forms}
    made.filters |= {"signed": lambda value, sign=1: words.percent(sign * value), "range": range}
    made.globals |= {"error": words.error, "number": words.number, "percent": words.percent, "swatch": _swatch}
    return made


def _swatch(index: int, part: str) -> Markup:
    """A piece of line as in the learning curves, for their legend."""
    dash = ' stroke-dasharray="2 3"' if part == "train" else ""
    return Markup(
        f'<svg width="34" height="10" aria-hidden="true" focusable="false"><line x1="1" x2="33" y1="5" y2="5" '
        f'stroke="{COLOURS[index]}" stroke-width="2.2"{dash}/></svg>'
    )


@lru_cache(maxsize=1)
def _plotly() -> str:
    """The script of the installed plotly, which draws what the page's data say."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    # In a string of JavaScript both mean the same; in HTML the first would end the element.
    return script.replace("</script", "<\\/script")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
