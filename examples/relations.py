"""Questions about texts: pairs, marked spans, events and short answers in words, one network beside one a question.

Sentences about sales and journeys are made up, and five questions are asked of them: do two sentences tell of the same
sort of thing (pairs of texts); what are two marked persons to each other (relations); which word tells of an event, and
who takes part in it (triggers, then roles given the trigger); what is its headline (a text, written word by word). Each
question has its own sentences. Events are found in sentences of the test as a whole, from the first word on, and
headlines are written by a beam and scored by BLEU and ROUGE.

    python examples/relations.py [--rows 300] [--sharing mmoe]
"""

import argparse

import numpy as np

from polytask import Recipe
from polytask.bundle.generation import generate, score_answers
from polytask.cli.terminal import print_table, say
from polytask.data import Event, Vocabulary, event_rows, find_events, marked, paired
from polytask.training.answer_data import AnswerData
from polytask.training.progress import Bar
from polytask.training.text_data import TextData

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, default=300, help="made-up sentences of each question")
parser.add_argument("--sharing", default="hard", help="see: polytask list sharing")
parser.add_argument("--balancer", default="equal", help="see: polytask list balancers")
parser.add_argument("--epochs", type=int, default=30)
arguments = parser.parse_args()

draw = np.random.default_rng(0)
PERSONS = [a + b for a in ("An", "Bor", "Cla", "Dim", "El", "Fri") for b in ("na", "is", "ra", "do", "mi")]
PLACES = [a + b for a in ("Ash", "Birch", "Cold", "Deep", "East") for b in ("ville", "ford", "ham")]
THINGS = ["car", "house", "boat", "lamp", "horse", "piano", "book", "clock"]
GIVING, TAKING, GOING = ("sold", "gave", "handed"), ("bought", "took", "got"), ("visited", "reached", "left")


def made_up_story() -> dict:
    """A sentence, its event, its two persons and what they are to each other, its headline."""
    one, two = draw.choice(PERSONS, 2, replace=False)
    thing, place = draw.choice(THINGS), draw.choice(PLACES)
    sort = draw.choice(["sale", "sale", "journey"])
    if sort == "journey":
        words = [one, draw.choice(GOING), place, "with", two]
        roles, relation = [(0, "who"), (2, "where"), (4, "with")], "companions"
        headline = ["a", "trip", "to", place]
    else:
        gives = draw.random() < 0.5
        words = [one, draw.choice(GIVING if gives else TAKING), "the", thing, "to" if gives else "from", two]
        roles, relation = [(0, "who"), (3, "what"), (5, "with")], "gives to" if gives else "takes from"
        headline = ["a", thing, "changes", "hands"]
    begin = ["yesterday"] if draw.random() < 0.4 else []
    shift = len(begin)
    arguments = tuple((shift + at, shift + at + 1, role) for at, role in roles)
    return {
        "words": [*map(str, [*begin, *words]), "."],
        "event": Event((shift + 1, shift + 2), str(sort), arguments),
        "persons": [(at, at + 1) for at, _, role in arguments if role in ("who", "with")],
        "relation": relation,
        "headline": list(map(str, headline)),
    }


def told(n: int) -> list[dict]:
    return [made_up_story() for _ in range(n)]


n = arguments.rows
vocabulary = Vocabulary()
part = np.resize(["train"] * 6 + ["validation", "test", "test"], n)
columns = {"part": part}
first, second, stories, related, titled = told(n), told(n), told(n), told(n), told(n)
made = event_rows([s["words"] for s in stories], [[s["event"]] for s in stories])
same = ["yes" if a["event"].kind == b["event"].kind else "no" for a, b in zip(first, second, strict=True)]
between = [marked(s["words"], *s["persons"]) for s in related]
SOURCES = {
    "same": TextData(
        "pairs", paired([s["words"] for s in first], [s["words"] for s in second]), {"same": same}, vocabulary, columns
    ),
    "relation": TextData("spans", between, {"relation": [s["relation"] for s in related]}, vocabulary, columns),
    "triggers": TextData(
        "sentences", [s["words"] for s in stories], {"triggers": made["triggers"]}, vocabulary, columns
    ),
    "roles": TextData("events", made["texts"], {"roles": made["roles"]}, vocabulary, columns),
    "headline": AnswerData(
        "titles", [s["words"] for s in titled], [s["headline"] for s in titled], "headline", vocabulary, columns
    ),
}
KINDS = {"same": "binary", "relation": "multiclass", "triggers": "tagging", "roles": "tagging", "headline": "tagging"}
SHOWN = {"same": "accuracy", "relation": "accuracy", "triggers": "span_f1", "roles": "accuracy", "headline": "accuracy"}


def train(tasks: list[str], title: str):
    """One network for some of the questions, with as many passes over the sentences of each."""
    recipe = Recipe(
        tasks={task: {"kind": KINDS[task]} for task in tasks},
        encoder={"name": "seq2seq", "width": 48, "n_layers": 1, "n_heads": 4},
        sharing=arguments.sharing if len(tasks) > 1 else "hard",
        balancer=arguments.balancer if len(tasks) > 1 else "equal",
        split={"method": "given", "column": "part"},
        training={"epochs": arguments.epochs, "batch_size": 32, "learning_rate": 2e-3},
    )
    say(f"{title}: {', '.join(tasks)}")
    return recipe.run([SOURCES[task] for task in tasks], progress=Bar())


joint = train(list(KINDS), "joint")
single = {task: train([task], "single") for task in KINDS}
rows = []
for task, metric in SHOWN.items():
    results = [run.record.tasks[task].metrics[metric] for run in (joint, single[task])]
    rows.append([task, metric, *results])

tested = np.flatnonzero(part == "test")
texts, truth = [stories[i]["words"] for i in tested], [[stories[i]["event"]] for i in tested]


def whole_events(bundle_of) -> float:
    """Share of sentences whose event is right: trigger, sort, and each who takes part."""

    def tag(task, asked):
        source = {"triggers": "sentences", "roles": "events"}[task]
        return bundle_of(task).predict(asked, [task], source=source)[task].values

    found = find_events(tag, texts)
    return float(np.mean([mine == true for mine, true in zip(found, truth, strict=True)]))


shares = [whole_events(lambda task: joint.bundle), whole_events(lambda task: single[task].bundle)]
rows.append(["events", "whole ones found", *shares])
asked = tested[:60]
wanted = [titled[i]["headline"] for i in asked]
scores = [
    score_answers(generate(run.bundle, [titled[i]["words"] for i in asked], "headline", "titles"), wanted)
    for run in (joint, single["headline"])
]
rows += [["headline", name, *(score[name] for score in scores)] for name in ("bleu", "rouge_l")]
print_table(["task", "metric", "joint", "single"], rows, title="On test sentences")
