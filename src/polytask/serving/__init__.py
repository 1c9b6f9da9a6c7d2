"""A bundle at work: predictions over HTTP, for files larger than memory, and as graphs for other programs.

Imports no training: what serves needs a bundle and nothing else.
"""

from __future__ import annotations
