"""``python -m polytask.cli``, where no script is installed."""

from polytask.cli import main

main()
