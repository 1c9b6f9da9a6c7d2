"""The page as a browser would read it: whole, closed to the world, and free of what names could smuggle in."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from polytask.errors import DataError, MissingExtraError, StorageError
from polytask.records import ConstraintResult, ExtensionRecord, Interval, TaskResult
from polytask.report import answer_figures, load_record, write_page

sys.path.insert(0, str(Path(__file__).parent))
from sample_records import NASTY, bare, renamed, run_record, sample, staged_record

VOID = {"wbr", "meta", "link", "br", "hr", "img", "input", "line", "circle", "path"}
LOADS = {"src", "srcset", "href", "data", "action", "poster", "background", "formaction", "xlink:href"}
SECTIONS = ["verdict", "use", "warnings", "arms", "curves", "weights", "conflict", "answers", "coverage", "gates",
            "cost", "left-out", "formulas", "provenance"]  # fmt: skip


class Page(HTMLParser):
    """Reads a page and refuses a tag that is closed in the wrong place."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.goes_on = False
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.goes_on = tag == "wbr"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> after {self.open}"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            attrs, before = self.scripts[-1]
            self.scripts[-1] = (attrs, before + data)
        elif "style" not in self.open and self.goes_on:
            self.text[-1] += data
        elif "style" not in self.open:
            self.text.append(data)
        self.goes_on = False

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def data(self):
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == "page-data"))


def drawn(tmp_path, records, **options) -> Page:
    return Page(write_page(records, tmp_path / "page.html", **options).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    return drawn(tmp_path_factory.mktemp("page"), sample(), charts=True)


def test_every_section_is_there_and_linked(page):
    ids = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert ids == SECTIONS
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert {f"#{name}" for name in SECTIONS} <= set(links)
    all_ids = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    assert all(link[1:] in all_ids for link in links)


def test_the_verdict_comes_first_in_plain_words(page):
    assert "Learning together helped 1 of 4 tasks (relapse) and hurt 1 (ward); for 2 there is no evidence" in page.words
    assert "Train relapse and visits together (joint); use boosting for stay_days and ward." in page.words
    assert page.words.index("+8.6%") < page.words.index("Which arm (way of learning) is used")
    for said in ("+4.9% to +12.3%", "p = 0.0028, corrected for 4 tasks", "▲ helped", "▼ hurt", "○ no evidence"):
        assert said in page.words


def test_tables_hold_what_the_record_holds(page):
    record = sample()
    for arm in record.arms.values():
        for interval in arm.error.values():
            assert f"{interval.mean:.3f}" in page.words
        assert arm.words in page.words
    for said in [*record.left_out.values(), *record.formulas.values(), record.data["sha256"], "2.13.0"]:
        assert said in page.words
    for warning in record.warnings:
        assert warning["words"] in page.words
    assert "no label in the test rows" in page.words


def test_the_best_arm_of_each_task_is_marked_without_colour(page):
    stars = [attrs for tag, attrs in page.tags if attrs.get("role") == "img" and attrs.get("aria-label") == "best"]
    assert len(stars) == 4
    assert "★ 0.722" in page.words


@pytest.mark.parametrize("records", [sample(), run_record(), [sample(), run_record()]], ids=["study", "run", "both"])
def test_nothing_is_loaded(tmp_path, records):
    page = drawn(tmp_path, records)
    for tag, attrs in page.tags:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base"}
        for name, value in attrs.items():
            assert not name.startswith("on"), "no handler in an attribute"
            if name in LOADS:
                assert value.startswith("#"), f"{tag} {name}={value}"
            assert "url(" not in (value or "")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_only_the_page_s_own_scripts_may_run(page):
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    own = [text for attrs, text in page.scripts if "type" not in attrs]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in own]
    assert re.search(r"script-src ([^;]*);", policy).group(1).split() == hashes
    assert len(own) == 2


def test_every_chart_has_words_and_valid_data(page):
    graph_objects = pytest.importorskip("plotly.graph_objects")
    charts = [attrs for tag, attrs in page.tags if attrs.get("class") == "chart"]
    figures = page.data["figures"]
    assert sorted(int(attrs["data-figure"]) for attrs in charts) == list(range(len(figures)))
    assert (
        len(figures) == 4 + 4 + 1 + 2 + 2 + 2 + 1
    )  # errors, curves, weights, conflict, calibration, residuals, labels
    for attrs in charts:
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"]) > 30
    for figure in figures:
        graph_objects.Figure(figure)  # raises on a trace or an option that plotly does not know


@pytest.mark.parametrize("charts", [False, True])
def test_names_from_data_stay_names(tmp_path, charts):
    page = drawn(tmp_path, renamed(NASTY), charts=charts)
    assert [tag for tag, _ in page.tags].count("script") == (3 if charts else 2)
    assert not [tag for tag, _ in page.tags if tag == "b"]
    for name in NASTY[:-1]:
        assert name in " ".join(page.text)
    assert [task["name"] for task in page.data["tasks"]] == sorted(
        NASTY, key=[t["name"] for t in page.data["tasks"]].index
    )
    assert "49" not in [text.strip() for text in page.text]
    drawn_text = json.dumps([(f["data"], f["layout"]) for f in page.data["figures"]])
    assert "<script" not in drawn_text
    assert "<b>" not in drawn_text


def test_text_of_warnings_and_settings_is_escaped(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    record = dataclasses.replace(
        sample(),
        warnings=({"kind": "giveaway", "severity": "warning", "task": evil, "columns": [evil], "words": evil},),
        settings={evil: {evil: evil}}, data={"path": evil}, left_out={evil: evil}, formulas={evil: evil},
        environment={"platform": evil}, made=evil,
    )  # fmt: skip
    page = drawn(tmp_path, record, charts=False)
    assert "img" not in [tag for tag, _ in page.tags]
    assert page.words.count(evil) >= 10


def test_parts_without_content_are_left_out_and_named(tmp_path):
    page = drawn(tmp_path, bare())
    left = [name for name in SECTIONS if name not in ("curves", "weights", "conflict", "answers", "gates", "left-out")]
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == left
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert "#curves" not in links
    assert "No verdict: joint or single models were not run." in page.words
    assert "The record holds no learning curves, weights of the losses, conflict of the gradients" in page.words
    assert not re.search(r"\b(nan|None|inf|NaN|undefined)\b", page.words)
    assert "–" in page.words


def test_nan_in_any_number_leaves_a_dash_and_valid_json(tmp_path):
    record = sample()
    nan = float("nan")
    arms = {
        name: dataclasses.replace(
            arm, error={task: Interval(nan, nan, nan) for task in arm.error}, mean_rank=nan, gain=nan,
            metrics={task: {"auroc": Interval(nan, None, nan)} for task in arm.metrics}, seconds=nan,
        )
        for name, arm in record.arms.items()
    }  # fmt: skip
    verdicts = {
        task: dataclasses.replace(v, verdict="no evidence", gain=nan, interval=(nan, nan), p=nan, p_corrected=nan)
        for task, v in record.verdicts.items()
    }
    curves = {"joint": {"relapse": {"epoch": [0, 1], "train": [nan, nan], "validation": [nan, 0.5]}}}
    page = drawn(tmp_path, dataclasses.replace(record, arms=arms, verdicts=verdicts, curves=curves), charts=True)
    assert "Too few tests to say." in page.words
    assert not re.search(r"\b(nan|None|NaN)\b", page.words)
    curve = next(f for f in page.data["figures"] if f["data"][0]["type"] == "scatter" and f["data"][0]["x"] == [0, 1])
    assert curve["data"][0]["y"] == [None, 0.5]
    assert curve["data"][0]["mode"] == "markers"  # a line through one point is not to be seen


def test_many_tasks_are_folded_and_can_be_filtered(tmp_path):
    names = [f"assay_{index:03d}" for index in range(139)]
    page = drawn(tmp_path, renamed(names), charts=True)
    assert any(attrs.get("id") == "filter" for _, attrs in page.tags)
    assert len(page.data["tasks"]) == 139
    assert "The other 127 tasks" in page.words
    assert "Show all 139 rows" in page.words
    assert "At first, tables show 24 rows and sections 12 charts" in page.words
    rows = [attrs for tag, attrs in page.tags if tag == "tr" and "data-task" in attrs]
    assert {attrs["data-task"] for attrs in rows} == {str(index) for index in range(139)}
    heat = [f for f in page.data["figures"] if f["data"][0]["type"] == "heatmap"]
    assert len(heat) == 3  # weights, conflict, labels
    assert all(len(f["layout"]["yaxis"]["tickvals"]) <= 32 for f in heat)


def test_few_tasks_have_no_filter(page):
    assert not any(attrs.get("id") == "filter" for _, attrs in page.tags)


def test_without_charts_the_page_is_small_and_says_in_words_what_they_show(tmp_path):
    page = drawn(tmp_path, sample(), charts=False)
    assert (tmp_path / "page.html").stat().st_size < 150_000
    assert not [attrs for _, attrs in page.tags if attrs.get("class") == "chart"]
    assert "joint, validation: from 1.03" in page.words
    assert page.data["figures"] == []


def test_without_plotly_there_is_a_note_and_every_table(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "plotly" else found(name, *rest)
    )
    page = drawn(tmp_path, sample())
    assert "plotly is not installed (pip install 'polytask[page]')" in page.words
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == SECTIONS
    assert "0.722" in page.words
    with pytest.raises(MissingExtraError, match=r"pip install 'polytask\[page\]'"):
        write_page(sample(), tmp_path / "other.html", charts=True)
    assert not (tmp_path / "other.html").exists()


def test_a_run_has_a_page(tmp_path):
    page = drawn(tmp_path, run_record())
    assert "ahead of one model a task on 1 of 2 tasks (relapse), on one split" in page.words
    assert "One split is no proof" in page.words
    for said in ("auroc ↑", "mae ↓", "0.810", "0.790", "Column 'id' left out.", "abcdef012345", "31"):
        assert said in page.words


def test_a_run_in_stages_is_not_called_joint(tmp_path):
    page = drawn(tmp_path, staged_record())
    headline = "The model learned in stages, alternating, was ahead of one model a task on 2 of 2 tasks"
    assert headline in page.words
    assert "joint model" not in page.words
    results = page.words[page.words.index("Results on test rows") : page.words.index("Every task after every stage")]
    assert "Alternating At once Single" in results
    assert "0.900 0.850 0.800 alternating" in results
    record = staged_record()
    alone = {name: dataclasses.replace(task, single=None, joint=None) for name, task in record.tasks.items()}
    page = drawn(tmp_path, dataclasses.replace(record, tasks=alone))
    assert "2 tasks learned in 2 stages." in page.words


def test_an_extension_s_page_says_what_was_added(tmp_path):
    tasks = {"cost": TaskResult("regression", "mae", False, {"mae": 2.5}, None, 60, 20)}
    added = ExtensionRecord("runs/first", True, 80, {"relapse": 0.0}, start={"cost": "from relapse"})
    page = drawn(tmp_path, dataclasses.replace(run_record(), tasks=tasks, extension=added))
    assert "cost was added to a trained model." in page.words
    assert "bit-equal outputs on 80 rows" in page.words


def test_a_run_s_page_says_which_constraints_are_kept(tmp_path):
    kept = ConstraintResult("relapse", "recall", 0.9, False, "validation", 0.92, 0.91, 0.01, 0.7, True, "kept: 0.92")
    broken = dataclasses.replace(
        kept, metric="loss", is_upper=True, bound=0.3, value=0.4, is_kept=False, words="broken: 0.4"
    )
    page = drawn(tmp_path, dataclasses.replace(run_record(), constraints={"relapse.recall>=0.9": kept}))
    for said in ("All are kept.", "relapse.recall>=0.9", "↑ 0.9", "0.910 ± 0.0196", "0.7"):
        assert said in page.words, said
    assert "By epoch" not in page.words
    kept = dataclasses.replace(kept, values=(0.5, None, 0.92), multipliers=(None, 0.2, 0.7))
    both = {"relapse.recall>=0.9": kept, "relapse.loss<=0.3": broken}
    page = drawn(tmp_path, dataclasses.replace(run_record(), constraints=both), charts=False)
    assert "Not kept: relapse.loss<=0.3." in page.words
    assert "broken: 0.4" in page.words
    for alt in (
        "relapse.recall>=0.9, validation: from 0.500 to 0.920, least 0.500 at epoch 0. It is to be at least 0.900.",
        "Multipliers of 1 constraint by epoch.",
    ):
        assert alt in page.words, alt
    page = drawn(tmp_path, dataclasses.replace(run_record(), constraints=both), charts=True)
    pulls, course = page.data["figures"]
    assert [trace["y"] for trace in pulls["data"]] == [[None, 0.2, 0.7]]
    assert [trace["y"] for trace in course["data"]] == [[0.5, None, 0.92], [0.9, 0.9, 0.9]]
    assert "Constraints" not in drawn(tmp_path, run_record()).words


def test_a_comparison_sets_tasks_side_by_side_and_lists_what_differs(tmp_path):
    record = sample()
    other = dataclasses.replace(record, settings={**record.settings, "seed": 3})
    page = drawn(tmp_path, [record, other], names=["first", "second"])
    assert "2 records side by side, 4 of 4 tasks in all of them." in page.words
    assert page.words.count("▲ helped") == 2
    section = page.words[page.words.index("What differs") :]
    assert "settings.seed 0 3" in section
    assert "settings.folds" not in section
    assert "Different data" not in page.words


def test_a_comparison_of_other_data_says_so(tmp_path):
    other = dataclasses.replace(renamed(["relapse", "new"]), data={"path": "b.csv", "sha256": "00"})
    page = drawn(tmp_path, [sample(), other, run_record()])
    assert "Different data" in page.words
    assert "1 of 5 tasks in all of them" in page.words
    assert "(single 0.790; joint ahead)" in page.words


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least one"):
        write_page([], tmp_path / "page.html")
    with pytest.raises(DataError, match="2 records need as many names; got 1"):
        write_page([sample(), sample()], tmp_path / "page.html", names=["a"])
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_page(sample(), tmp_path / "file" / "page.html", charts=False)


def test_records_are_found_in_folders(tmp_path):
    with pytest.raises(DataError, match=r"neither study\.json"):
        load_record(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load_record(tmp_path / "missing.json")
    (tmp_path / "record.json").write_text(json.dumps(run_record().to_json()))
    assert load_record(tmp_path) == load_record(tmp_path / "record.json")
    assert load_record(tmp_path).recipe_hash == "abcdef012345"
    (tmp_path / "study.json").write_text(json.dumps(sample().to_json()))
    assert load_record(tmp_path) == sample()
    for damaged in ("{", "[]", "{}", '{"form": "study"}', '"x"', '{"form": "study", "schema": "1"}'):
        (tmp_path / "study.json").write_text(damaged)
        with pytest.raises(DataError, match="damaged"):
            load_record(tmp_path)


def test_the_same_record_gives_the_same_page(tmp_path):
    first = write_page(sample(), tmp_path / "a.html").read_bytes()
    assert write_page(sample(), tmp_path / "b.html").read_bytes() == first


def test_reports_need_no_torch():
    code = (
        "import sys, polytask.report, polytask.cli.report; sys.exit('torch' in sys.modules or 'plotly' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_in_stages_and_an_extension_have_their_tables(tmp_path):
    from dataclasses import replace

    from polytask.records import ExtensionRecord, SequenceResult, StageRecord

    record = run_record()
    first, second = list(record.tasks)[:2]
    names = {task: result.metric for task, result in record.tasks.items()}
    metrics = {task: {names[task]: 0.5 + 0.25 * (task == first)} for task in record.tasks}
    stages = (StageRecord(first, (first,), metrics), StageRecord(second, (second,), metrics))
    sequence = SequenceResult(
        "sequential", ("ewc",), metrics, stages, backward={first: -0.125}, means={"backward": -0.125}
    )
    page = write_page(replace(record, sequence=sequence), tmp_path / "stages.html", charts=False).read_text()
    assert "Every task after every stage" in page
    assert "with ewc against forgetting" in page
    assert "backward transfer" in page
    assert "forgetting: best" not in page
    added = ExtensionRecord(
        "runs/first", True, 39, {"old": 0.0}, start={first: "from old"}, resemblance={first: {"old": 0.5}}
    )
    page = write_page(replace(record, extension=added), tmp_path / "added.html", charts=False).read_text()
    assert "bit-equal outputs on 39 rows" in page
    assert "resembles old 0.5" in page
    moved = replace(
        added, is_frozen=False, before={"old": {"relative_error": 0.25}}, after={"old": {"relative_error": 0.5}}
    )
    page = write_page(replace(record, extension=moved), tmp_path / "moved.html", charts=False).read_text()
    assert "what changed for its tasks" in page


def test_what_was_asked_for_and_did_not_run_is_said_at_the_top(tmp_path):
    record = sample()
    settings = {**record.settings, "by_name": ["chains", "joint"]}
    page = drawn(tmp_path, dataclasses.replace(record, settings=settings))
    said = "Asked for and not run: chains (it would take about 340 s, and 120 s of the budget are left)."
    assert page.words.index(said) < page.words.index("Verdict")
    assert "Asked for and not run" not in drawn(tmp_path, record).words


def test_where_the_folds_chose_otherwise_the_error_of_the_choice_is_of_that(tmp_path):
    record = sample()
    advice = record.recommendation
    task = next(iter(advice.arms))
    same = {name: {arm: 5} for name, arm in advice.arms.items()}
    said = "not every fold chose what is recommended"
    page = drawn(tmp_path, dataclasses.replace(record, recommendation=dataclasses.replace(advice, chosen=same)))
    assert said not in page.words
    other = {**same, task: {"boosting + linear": 3}}
    page = drawn(tmp_path, dataclasses.replace(record, recommendation=dataclasses.replace(advice, chosen=other)))
    assert f"For {task}, {said}" in page.words


def test_gains_that_are_above_zero_together_but_not_alone_are_counted(tmp_path):
    record = sample()
    nothing = {
        name: dataclasses.replace(verdict, verdict="no evidence", gain=-1.0 if i == 0 else 2.0)
        for i, (name, verdict) in enumerate(record.verdicts.items())
    }
    assert "3 of 4 gains are above zero" in drawn(tmp_path, dataclasses.replace(record, verdicts=nothing)).words
    assert "gains are above zero" not in drawn(tmp_path, record).words


def test_an_interval_of_an_error_ends_at_zero_in_the_chart_as_in_the_table():
    figure = answer_figures.errors("y", {"joint": Interval(0.2, -0.1, 0.5), "single": Interval(0.3, 0.1, 0.5)}, "joint")
    assert figure.data[0]["x"] == [0.3, 0.2]
    assert figure.data[0]["error_x"]["arrayminus"] == pytest.approx([0.2, 0.2])


def test_what_several_workers_took_is_said_to_be_a_sum_and_no_gain_is_more_than_all(tmp_path):
    record = sample()
    first = next(iter(record.verdicts))
    wide = dataclasses.replace(record.verdicts[first], verdict="no evidence", interval=(-229.7, 328.9))
    record = dataclasses.replace(
        record, engine={"name": "local", "workers": 2}, verdicts={**record.verdicts, first: wide}
    )
    page = drawn(tmp_path, record)
    assert "training, sum over 2 workers" in page.words
    assert "329" not in page.words
    assert "from −230% to at most +100%" in page.words
