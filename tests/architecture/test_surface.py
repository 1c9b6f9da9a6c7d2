"""What is public, and what importing it costs."""

import subprocess
import sys

import polytask

HEAVY = ("torch", "pandas", "sklearn", "scipy", "numpy", "optuna", "ray", "fastapi", "uvicorn")


def test_public_names() -> None:
    expected = ["Bundle", "MultiTaskEstimator", "Recipe", "Study", "balanced_backward", "extend", "load"]
    assert sorted(polytask.__all__) == expected
    for name in expected:
        assert getattr(polytask, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(polytask, "no_such_name")


def test_import_and_help_load_nothing_heavy() -> None:
    script = (
        "import sys; import polytask; from typer.testing import CliRunner; from polytask.cli.app import app;"
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0, result.output;"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]; assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
