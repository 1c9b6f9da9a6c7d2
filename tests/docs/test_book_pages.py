"""Every page is found from the first one, every relative link leads somewhere, every code block and command runs."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from polytask.cli.list_methods import ROLES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for end in ("md", "rst") for path in DOCS.rglob(f"*.{end}") if "_build" not in path.parts)
MARKDOWN = [page for page in PAGES if page.suffix == ".md"] + [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")
]

TRANSCRIPTS = sorted((DOCS / "outputs").glob("*.txt"))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix().removeprefix("docs/")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Anchors of headings, as GitHub and the site make them."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_found_from_the_first() -> None:
    found, left = set(), [DOCS / "index.md"]
    while left:
        page = left.pop()
        if page in found:
            continue
        found.add(page)
        for tree in blocks(page, r"{toctree}"):
            entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
            left += [next(page.parent.glob(f"{entry}.*")) for entry in entries]
    assert sorted(found) == PAGES


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(file), f"{file.name} has no heading for #{anchor}"


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_pieces_that_are_included_are_there(page: Path) -> None:
    """A piece begins at a text that its file has once, and ends before one that comes after it."""
    for path, told in re.findall(r"^```\{literalinclude\} (\S+)\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        file = text_of(page.parent / path)
        options = dict(re.findall(r"^:([\w-]+): (.+)$", told, re.MULTILINE))
        start, end = options.get("start-at", ""), options.get("end-before", "") or options.get("end-at", "")
        assert not start or file.count(start) == 1, f"{path} has {start!r} {file.count(start)} times"
        assert end in file.partition(start)[2] if start else end in file, f"{path} has no {end!r} after {start!r}"


def run_python(block: str, page: Path, names: dict[str, object]) -> None:
    code = compile(block, name_of(page), "exec")
    for node in ast.walk(ast.parse(block)):  # whatever is imported from polytask is there
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("polytask"):
            assert all(hasattr(import_module(node.module), alias.name) for alias in node.names)
    exec(code, names)


# Pages that are followed from the first block to the last: Python, files and commands.
FOLLOWED = [DOCS / name for name in ("start.md", "features.md", "tutorials/own-table.md", "how-to/recipe.md")]


@pytest.mark.parametrize("page", [page for page in MARKDOWN if blocks(page, "python")], ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after another, in a folder of their own."""
    if page in FOLLOWED:
        return  # with its commands, below
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        run_python(block, page, names)


# What makes a command of a page short: the last of two values of an option counts.
SHORT = {
    "fit": "--set training.epochs=2",
    "extend": "--epochs 2",
    "study": "--arms joint,single,linear --folds 2 --repeats 1 --workers 1 --set training.epochs=2",
    "affinity": "--no-verify --measures label_correlation --set training.epochs=2",
}
NOT_FOLLOWED = ("demo", "serve")  # a minute; does not end


@pytest.mark.parametrize("page", FOLLOWED, ids=name_of)
def test_page_can_be_followed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every block in the order of the page: Python is run, YAML is saved under the name in its first line, and commands
    are run with short trainings; so every file that a command reads was made before, and no folder is made twice."""
    from polytask import Recipe
    from polytask.cli import main

    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, block in re.findall(r"^```(python|yaml|sh)\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        if language == "python":
            run_python(block, page, names)
        elif language == "yaml":
            name = block.partition("\n")[0].removeprefix("# ")
            Path(name).write_text(block, encoding="utf-8")
            assert Recipe.load(name).tasks
        for line in block.replace("\\\n", " ").splitlines() if language == "sh" else []:
            words = shlex.split(line, comments=True)
            if words[:1] != ["polytask"] or words[1] in NOT_FOLLOWED:
                continue
            monkeypatch.setattr("sys.argv", [*words, *shlex.split(SHORT.get(words[1], ""))])
            with pytest.raises(SystemExit) as stop:
                main()
            assert not stop.value.code, f"{line}\n{capsys.readouterr().err}"


def commands() -> list[tuple[str, str]]:
    """Of blocks of a shell, and of blocks that are indented, as beside the numbers in docs/results.md."""
    found = []
    for page in MARKDOWN:
        text = text_of(page).replace("\\\n", " ")
        indented = "\n".join(re.findall(r"^    (polytask .*)", text, re.MULTILINE))
        for block in (*blocks(page, "sh"), indented):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(name_of(page), line.strip()) for line in lines if line.strip().startswith("polytask ")]
    transcripts = [(name_of(path), line[2:]) for path in TRANSCRIPTS for line in text_of(path).splitlines()]
    return sorted({*found, *(pair for pair in transcripts if pair[1].startswith("polytask "))})


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_are_understood(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verb and options are known to the command line; nothing is run."""
    from typer.main import get_command

    from polytask.cli.app import app

    monkeypatch.chdir(tmp_path)
    command, context = get_command(app), None
    words = shlex.split(line, comments=True)[1:]
    for word in words:
        if word.endswith((".csv", ".yaml", ".parquet")) and "/" not in word:
            Path(word).touch()
        elif word.startswith("runs/"):
            Path(word).mkdir(parents=True, exist_ok=True)
    while hasattr(command, "get_command"):
        command = command.get_command(context, words.pop(0))
        assert command is not None, f"{page} has an unknown verb: {line}"
    command.make_context(line, words)


@pytest.mark.parametrize("file", sorted((DOCS / "how-to").glob("*.py")), ids=lambda file: file.stem)
def test_how_to_file_runs(file: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "error", str(file)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def scripts() -> list[tuple[str, str]]:
    """Every ``python bench/x.py ...`` or ``python examples/x.py ...`` that a page or a transcript names."""
    found = set()
    for page in [*MARKDOWN, *TRANSCRIPTS, ROOT / "CHANGELOG.md"]:
        text = text_of(page).replace("\\\n", " ")
        for code in re.findall(r"`+(python [^`]*)`|^(?:    |\$ )?(python .*)$", text, re.MULTILINE):
            line = " ".join("".join(code).split())
            if re.match(r"python (bench|examples|docs)/", line):
                found.add((name_of(page), line))
    return sorted(found)


@pytest.mark.parametrize(("page", "line"), scripts())
def test_scripts_that_pages_name_have_these_options(page: str, line: str) -> None:
    """The file is there, and its parser has every option of the command; nothing is run."""
    _, path, *words = shlex.split(line, comments=True)
    source = text_of(ROOT / path)
    known = set(re.findall(r"""["'](--[\w-]+)["']""", source))
    if 'add_argument(f"--{name}"' in source:  # a loop over names, which are literals of the file
        known |= {f"--{name}" for name in re.findall(r"""["']?\b(\w+)["']?[,=)]""", source)}
    asked = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert asked <= known, f"{path} has no {', '.join(sorted(asked - known))}"


def test_every_transcript_is_shown() -> None:
    shown = set(re.findall(r"literalinclude\} \.\./outputs/(\S+)", "".join(map(text_of, PAGES))))
    assert shown == {path.name for path in TRANSCRIPTS}


def test_every_role_has_its_cards() -> None:
    shown = {role for page in PAGES for role in re.findall(r"^\.\. cards:: (\w+)", text_of(page), re.MULTILINE)}
    assert shown == set(ROLES)


def test_every_example_has_a_tutorial() -> None:
    included = set(re.findall(r"literalinclude\} \.\./\.\./examples/(\S+)", "".join(map(text_of, PAGES))))
    assert included == {path.name for path in (ROOT / "examples").glob("*.py")}


def test_pictures_are_drawn_by_their_code(tmp_path: Path) -> None:
    """And the numbers that the page says of them are those that the balancers give."""
    file = DOCS / "explanation" / "pictures.py"
    command = [sys.executable, "-W", "error", str(file), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    drawn = {path.name for path in tmp_path.iterdir()}
    page = text_of(DOCS / "explanation" / "balancing.md")
    assert drawn == set(re.findall(r"images/(\S+\.svg)", page))
    ends = {line.split()[0]: ast.literal_eval(line.split("ends at ")[1]) for line in done.stdout.splitlines()[2:]}
    for name in ("equal", "mgda", "nash_mtl"):
        said = re.search(rf"`{name}`[^()]*\((\[[^]]*\])\)", page)
        assert said, f"the page does not say where {name} ends"
        assert ends[name] == pytest.approx(ast.literal_eval(said[1]), abs=0.05)


def test_versions_page_has_every_extra_with_its_size() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    sizes = dict(found.groups() for line in lines if (found := re.match(r"(\w+) = \[.*\]\s*# (\d+ MB)", line)))
    page = text_of(DOCS / "reference" / "versions.md")
    assert sizes == dict(re.findall(r"^\| `(\w+)` \| (\d+ MB) \|", page, re.MULTILINE))


def test_sizes_of_extras_are_what_is_measured() -> None:
    """As far as their packages are here, and to a quarter: wheels differ between systems."""
    command = [sys.executable, "-W", "error", str(DOCS / "reference" / "extras.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    measured = {name: float(size) for name, size in re.findall(r"^(\w+) +(\d+) MB$", done.stdout, re.MULTILINE)}
    said = dict(re.findall(r"^\| `(\w+)` \| (\d+) MB \|", text_of(DOCS / "reference" / "versions.md"), re.MULTILINE))
    assert {"parquet", "page", "all"} <= set(measured)
    wrong = {name: (size, measured[name]) for name, size in said.items() if name in measured
             and abs(float(size) - measured[name]) > 5 + measured[name] / 4}  # fmt: skip
    assert wrong == {}


# Keys of the Citation File Format 1.2.0.
CITED = {
    *("abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
    *("license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact"),
    *("repository-code", "title", "type", "url", "version"),
}


def test_citation_is_valid_and_of_this_version() -> None:
    import yaml

    import polytask

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation) <= CITED
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    assert citation["authors"]
    for author in citation["authors"]:  # an organisation has a name, a person a family name
        assert ("name" in author) != ("family-names" in author)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["license"] == project["license"]
    assert citation["version"] == project["version"] == polytask.__version__
    assert all(isinstance(word, str) and word for word in citation["keywords"])
    assert len(set(citation["keywords"])) == len(citation["keywords"])
