"""The command line, a file per verb: parse, call, print.

Verbs are imported to show ``--help``, so a verb's module imports nothing heavy at its top.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; an error that polytask raises on purpose is one line and exit status 2."""
    from polytask.cli.app import app
    from polytask.cli.terminal import fail
    from polytask.errors import PolytaskError

    try:
        app(standalone_mode=True)
    except PolytaskError as error:
        fail(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        fail("Interrupted. What was written is whole; go on with the same command and --resume.")
        sys.exit(130)
