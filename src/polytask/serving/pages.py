"""The two pages of a server: a form for one row, and the API in words. Neither loads anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from polytask.serving.description import Description

__all__ = ["Pages"]


class Pages:
    """Makes the pages of a bundle.

    Args:
        description: What the bundle answers and needs.
    """

    def __init__(self, description: Description):
        self.description = description
        self._environment = Environment(loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined)

    def form(self) -> HTMLResponse:
        """A form with a field for each column, and all tasks' answers."""
        return self._page("form.html.jinja", _text("form.js"), **self.description.plain())

    def docs(self, openapi: dict[str, Any]) -> HTMLResponse:
        """The end points, as the OpenAPI description has them."""
        schema = self.description.request_schema()
        rows = [
            {column.name: column.typical for column in reader.columns} for reader in self.description.readers.values()
        ]
        example = json.dumps({"rows": rows[:1]}, indent=2, ensure_ascii=False)
        return self._page("docs.html.jinja", "", openapi=openapi, example=example, schema=json.dumps(schema, indent=2))

    def _page(self, template: str, script: str, **content: Any) -> HTMLResponse:
        style = _text("serving.css")
        rendered = self._environment.get_template(template).render(
            style=Markup(style), script=Markup(script), **content
        )  # style and script are files of this package
        policy = [
            "default-src 'none'",
            "connect-src 'self'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'" if script else "script-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
        return HTMLResponse(rendered, headers={"Content-Security-Policy": "; ".join(policy)})


def _text(name: str) -> str:
    return (resources.files("polytask.serving") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
