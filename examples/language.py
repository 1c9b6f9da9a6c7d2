"""Language: tags of words and classes of sentences from one encoder, two corpora, joint beside single models.

Without options the sentences are made up, from a small grammar. Real ones: parts of speech and genre from a CoNLL-U
file of Universal Dependencies, named entities from the same sentences in IOB2 (Universal NER), sentiment from the
sentences of Pang and Lee; training on one file, test on another:

    python examples/language.py --treebank en_ewt-ud-dev.conllu en_ewt-ud-test.conllu \\
        --entities en_ewt-ud-dev.iob2 en_ewt-ud-test.iob2 --polarity sentence_polarity.zip

Every task is answered by the network of its own best epoch, in joint as in single models, and a batch is of sentences
of alike lengths. The loss of a tag is a mean over all words of a batch and changes little from one to the next, that of
a class is a mean over its few sentences: with equal weights tags are learned badly beside those. What --tags, --names,
--ratio, --sampler and --balancer change is in docs/results.md.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np

from polytask import Recipe
from polytask.cli.terminal import number, print_record, say
from polytask.data import Vocabulary, made_up_reviews, made_up_sentences, read_conll
from polytask.training.progress import Bar
from polytask.training.text_data import TextData

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--treebank", type=Path, nargs=2, metavar=("TRAIN", "TEST"), help="CoNLL-U files")
parser.add_argument("--entities", type=Path, nargs=2, metavar=("TRAIN", "TEST"), help="IOB2 files of them")
parser.add_argument("--polarity", type=Path, help="zip archive with rt-polarity.pos and rt-polarity.neg")
parser.add_argument("--rows", type=int, default=600, help="made-up sentences")
parser.add_argument("--reviews", type=int, help="so many of the real ones; all of them if left out")
parser.add_argument("--encoder", default="bigru", help="bigru, text_cnn or transformer")
parser.add_argument("--sharing", default="hard", help="see: polytask list sharing")
parser.add_argument("--ratio", type=float, default=0.5, help="how much hard sharing shares: 1 is all but the heads")
parser.add_argument(
    "--tags", type=float, default=5.0, help="weight of the parts of speech, beside 1 of classes of sentences"
)
parser.add_argument("--names", type=float, default=20.0, help="weight of the names, of which few words are one")
parser.add_argument("--sampler", default="proportional", help="how corpora are mixed; see: polytask list samplers")
parser.add_argument("--balancer", default="equal", help="see: polytask list balancers")
parser.add_argument("--epochs", type=int, default=8)
arguments = parser.parse_args()


def treebank(path: Path, entities: Path | None) -> list[dict]:
    """Sentences as rows; entities of those whose words agree."""
    names = {}
    if entities is not None:
        names = {s.comments["sent_id"]: s for s in read_conll(entities, {"ner": 2})}
    rows = []
    for sentence in read_conll(path, {"pos": 3}):
        key = sentence.comments["sent_id"]
        same = names.get(key)
        ner = same.tags["ner"] if same is not None and same.words == sentence.words else None
        rows.append({"words": sentence.words, "pos": sentence.tags["pos"], "ner": ner, "genre": key.split("-")[0]})
    return rows


def polarity(archive: Path) -> list[tuple[list[str], str]]:
    with zipfile.ZipFile(archive) as file:
        found = []
        for name in sorted(file.namelist()):
            if name.endswith((".pos", ".neg")):
                lines = file.read(name).decode("latin-1").splitlines()
                found += [(line.split(), name[-3:]) for line in lines if line.strip()]
    return found


vocabulary = Vocabulary()
tasks = {"pos": "tagging", "genre": "multiclass"}
if arguments.treebank:
    files = arguments.entities or (None, None)
    parts = [treebank(path, other) for path, other in zip(arguments.treebank, files, strict=True)]
    # The last sixth of the training file is for early stopping.
    cut = len(parts[0]) - len(parts[0]) // 6
    which = ["train"] * cut + ["validation"] * (len(parts[0]) - cut) + ["test"] * len(parts[1])
    rows = [row for part in parts for row in part]
else:
    say("The sentences are made up from a small grammar.")
    rows = made_up_sentences(arguments.rows)
    which = np.random.default_rng(0).permutation(np.resize(["train"] * 7 + ["validation", "test", "test"], len(rows)))
labels = {name: [row.get(name) for row in rows] for name in ("pos", "ner", "genre")}
if any(row.get("ner") for row in rows):
    tasks["ner"] = "tagging"
else:
    labels.pop("ner")
sources = [TextData("sentences", [row["words"] for row in rows], labels, vocabulary, {"part": which})]
if arguments.polarity or not arguments.treebank:
    reviews = polarity(arguments.polarity) if arguments.polarity else made_up_reviews(arguments.rows)
    order = np.random.default_rng(0).permutation(len(reviews))[: arguments.reviews]
    texts, feelings = [reviews[i][0] for i in order], [reviews[i][1] for i in order]
    part = np.resize(["train"] * 7 + ["validation", "test", "test"], len(texts))
    sources.append(TextData("reviews", texts, {"sentiment": feelings}, vocabulary, {"part": part}))
    tasks["sentiment"] = "binary"
say(", ".join(f"{len(source)} {source.name}" for source in sources))
weights = {"pos": arguments.tags, "ner": arguments.names}
recipe = Recipe(
    tasks={
        name: {"kind": kind, "weight": weights.get(name, 1.0), "patience": arguments.epochs}
        for name, kind in tasks.items()
    },
    encoder=arguments.encoder,
    sharing={"name": "hard", "ratio": arguments.ratio} if arguments.sharing == "hard" else arguments.sharing,
    balancer=arguments.balancer,
    sampler=arguments.sampler,
    split={"method": "given", "column": "part"},
    training={"epochs": arguments.epochs, "batch_size": 32, "learning_rate": 2e-3, "alike_lengths": True},
)
run = recipe.run(sources, compare=True, progress=Bar())
print_record(run.record)
if "ner" in tasks:
    found = run.record.tasks["ner"]
    single = (found.single or {}).get("span_f1")
    say(f"F1 of whole names: joint {number(found.metrics['span_f1'])}, single {number(single)}.")
