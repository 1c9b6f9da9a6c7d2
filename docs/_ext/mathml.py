"""Formulas as MathML, which browsers draw themselves: no script, no network, no TeX."""

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.errors import ExtensionError

_OTHER_WORDS = (
    (re.compile(r"\\[bB]igg?(?![a-zA-Z])"), ""),  # sizes of brackets, which MathML finds by itself
    (re.compile(r"\\dots(?![a-zA-Z])"), r"\\ldots"),
    (re.compile(r"\\texttt(?![a-zA-Z])"), r"\\text"),
)
"""What the translator of docutils does not know, and what says the same."""


def _mathml(text: str, *, block: bool) -> str:
    for pattern, other in _OTHER_WORDS:
        text = pattern.sub(other, text)
    # A formula of several lines without an environment of its own is one of aligned rows.
    if block and "\\\\" in text and "\\begin" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    try:
        tree = latex2mathml.tex2mathml(text, as_block=block)
    except MathError as error:
        raise ExtensionError(f"the formula {text!r} cannot be drawn: {error}") from error
    return str(tree)


def _inline(translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node.astext(), block=False))
    raise nodes.SkipNode


def _block(translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_mathml(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
