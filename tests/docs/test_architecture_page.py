"""The page of the architecture is true to the import contract and to the files that are there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "polytask"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| `([\w.]+)/?` \| .+? \| ?(.*?) ?\|$", PAGE, re.MULTILINE)


def test_the_table_of_rooms_has_the_floors_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    said: dict[int, set[str]] = {}
    for floor, room, _ in ROWS:
        said.setdefault(int(floor), set()).add(room.removesuffix(".py"))
    below = [set(re.findall(r"\w+", layer)) for layer in reversed(layers)]
    assert [said[floor] for floor in sorted(said)] == below


@pytest.mark.parametrize(("room", "files"), [(room, files) for _, room, files in ROWS])
def test_a_room_is_there_and_so_are_its_main_files(room: str, files: str) -> None:
    assert (PACKAGE / room).exists()
    named = re.findall(r"`([^`]+)`", files)
    assert all(name.startswith(f"{room}/") for name in named)
    assert bool(named) == (PACKAGE / room).is_dir(), "a folder has files to begin with, a file is one"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:\w+/)+\w+(?:\.py)?)`", PAGE))))
def test_files_and_folders_that_the_page_names_are_there(name: str) -> None:
    assert (PACKAGE / name).exists() or (ROOT / name).exists()
