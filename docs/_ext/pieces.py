"""Pieces of files end where their code ends: blank lines before the next function are no part of them."""

from docutils import nodes


def _end_with_code(app, doctree) -> None:
    for block in doctree.findall(nodes.literal_block):
        text = block.astext()
        if text.endswith("\n\n"):
            block.rawsource = text.rstrip("\n") + "\n"
            block.children = []
            block += nodes.Text(block.rawsource)


def setup(app) -> dict[str, bool]:
    app.connect("doctree-read", _end_with_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
