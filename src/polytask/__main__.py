"""``python -m polytask``, also for ``torchrun -m polytask``."""

from polytask.cli import main

main()
