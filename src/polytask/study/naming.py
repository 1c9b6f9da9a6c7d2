"""Arms by their names on the command line."""

from __future__ import annotations

import re

from polytask.errors import RecipeError
from polytask.study.arm import Arm
from polytask.study.arms import registry

__all__ = ["make_arm"]

_NAME = re.compile(r"^(?P<arm>[a-z_0-9]+)(:(?P<kind>[a-z_0-9]+))?(@(?P<ratio>[0-9.]+))?(\+(?P<balancer>[a-z_0-9]+))?$")


def make_arm(name: str) -> Arm:
    """An arm by its name on the command line: ``boosting``, ``joint:hard@0.5+pcgrad``.

    Raises:
        UnknownNameError: If there is no such arm.
        RecipeError: If the name cannot be read, or the arm does not take what it says.

    Example:
        >>> make_arm("joint:hard@0.5").words
        'One network for all tasks, hard sharing (ratio 0.5), equal weights.'
    """
    found = _NAME.match(name)
    if found is None:
        raise RecipeError(
            f"{name!r} is no arm's name. Write ARM, ARM:KIND, ARM:KIND@RATIO, ARM+BALANCER; for example joint:mmoe, "
            f"joint:hard@0.5, joint+pcgrad. Arms: {', '.join(registry.names())}."
        )
    arm: type[Arm] = registry.load(found["arm"])
    options = {key: found[key] for key in ("kind", "ratio", "balancer") if found[key] is not None}
    if extra := [key for key in options if key not in arm.takes]:
        takes = f"it takes {', '.join(arm.takes)}" if arm.takes else "it takes none"
        raise RecipeError(f"Arm {found['arm']!r} has no {extra[0]} ({name!r}); {takes}.")
    made: Arm = arm(name, **options)
    return made
