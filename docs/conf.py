"""Settings of the documentation site: `make docs`, which needs no network."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from polytask import __version__

project = "polytask"
author = "The polytask developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "cards", "mathml", "pieces"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext"]

html_theme = "furo"
html_title = "polytask"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Shapes in annotations are strings for jaxtyping, which are no Python: signatures show names and defaults.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape", ("Class attributes", "params_style")]

# A name in a docstring that has no page of its own stays plain text; every other reference must resolve.
nitpick_ignore_regex = [(r"py:.*", r".*")]
suppress_warnings = ["config.cache"]


def _language(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Browsers, readers of screens and search engines take the language from the page's head."""
    context["language"] = "zh-CN" if page.startswith("zh/") else "en"


def setup(app: Any) -> None:
    app.connect("html-page-context", _language)
