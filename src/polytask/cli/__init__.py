"""The command line, a file per verb: parse, call, print.

Verbs are imported to show ``--help``, so a verb's module imports nothing heavy at its top.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    from polytask.cli.app import app

    app()
