"""A language model from a folder below several tasks: frozen, with low-rank changes for each of them or for all.

Without --model a tiny one is made on the spot: a BERT of two layers that learns to fill gaps in sentences from a small
grammar, saved as `transformers` saves models. A few of these sentences have labels: parts of speech and names of their
words, their genre; a second source has the mood of reviews. The model is trained on them in three ways, and a model a
task beside; then all tasks are asked of one file that holds the trunk once. (Extra `pretrained`.)

    python examples/pretrained.py [--model FOLDER] [--rows 200]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from polytask import Recipe, load
from polytask.cli.terminal import print_table, say
from polytask.data import PretrainedVocabulary, made_up_reviews, made_up_sentences
from polytask.training.progress import Bar, counted
from polytask.training.text_data import TextData

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=Path, help="folder of a model saved by transformers, with its tokenizer.json")
parser.add_argument("--rows", type=int, default=200, help="sentences with labels, and reviews")
parser.add_argument("--steps", type=int, default=600, help="of filling gaps, where the model is made here")
parser.add_argument("--rank", type=int, default=8, help="of the changes")
parser.add_argument("--epochs", type=int, default=12)
arguments = parser.parse_args()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def made_here(folder: Path, texts: list[str], steps: int) -> None:
    """Learn pieces of words, then to fill gaps; save both."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    learner = trainers.WordPieceTrainer(vocab_size=500, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, learner)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    codes = torch.tensor([line.ids for line in tokenizer.encode_batch(texts)])
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=tokenizer.get_vocab_size(), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=128, max_position_embeddings=128,
        )
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in counted(range(steps), "filling gaps", steps, Bar()):
        rows = codes[torch.randint(len(codes), (32,))]
        gaps = (torch.rand(rows.shape) < 0.15) & (rows >= len(SPECIAL))
        gaps[:, 1] = True  # at least one in each text
        out = model(rows.masked_fill(gaps, 4), attention_mask=rows != 0, labels=rows.masked_fill(~gaps, -100))
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
    say(f"The model fills gaps with a loss of {out.loss.item():.2f}.")
    whole = transformers.BertModel(model.config)  # with a part that is not used here, and looked for all the same
    whole.load_state_dict(model.bert.state_dict(), strict=False)
    whole.save_pretrained(folder)


def sources(folder: Path) -> list[TextData]:
    n = arguments.rows
    sentences, reviews = made_up_sentences(n), made_up_reviews(n)
    vocabulary = PretrainedVocabulary(folder)
    labels = {name: [row[name] for row in sentences] for name in ("pos", "ner", "genre")}
    columns = {"part": np.resize(["train", "train", "validation", "test", "test"], n)}
    return [
        TextData("sentences", [row["words"] for row in sentences], labels, vocabulary, columns),
        TextData(
            "reviews", [text for text, _ in reviews], {"mood": [mood for _, mood in reviews]}, vocabulary, columns
        ),
    ]


with tempfile.TemporaryDirectory() as scratch:
    folder = arguments.model or Path(scratch) / "model"
    if not arguments.model:
        folder.mkdir()
        unlabelled = [" ".join(row["words"]) for row in made_up_sentences(4000)]
        made_here(folder, unlabelled + [" ".join(text) for text, _ in made_up_reviews(2000)], arguments.steps)
    lora = {"name": "lora", "rank": arguments.rank, "freeze": True}
    ways = {
        "frozen, a change a task": lora,
        "frozen, one change for all": {**lora, "common": True},
        "all of it trained": "hard",
    }
    runs = {}
    for way, sharing in ways.items():
        recipe = Recipe(
            tasks={"pos": "tagging", "ner": "tagging", "genre": "binary", "mood": "binary"},
            encoder={"name": "pretrained", "path": str(folder)},
            sharing=sharing,
            split={"method": "given", "column": "part"},
            training={
                "epochs": arguments.epochs, "batch_size": 16, "learning_rate": 5e-3 if sharing != "hard" else 1e-3,
            },
        )  # fmt: skip
        say(f"Joint: {way}")
        is_last = sharing == "hard"  # single models are trained the same way: all of a model a task
        runs[way] = recipe.run(sources(folder), compare=is_last, out=Path(scratch) / way, progress=Bar())
    records = {way: run.record for way, run in runs.items()}
    last = records["all of it trained"]
    rows = []
    for task, found in last.tasks.items():
        results = [record.tasks[task].metrics[found.metric] for record in records.values()]
        rows.append([task, found.metric, *results, (found.single or {})[found.metric]])
    print_table(["task", "metric", *(f"joint: {way}" for way in ways), "single"], rows, title="On test rows")

    whole = sum(last.parameters[part] for part in ("shared", "private"))
    changes = records["frozen, a change a task"].parameters["private"]
    n_tasks = len(last.tasks)
    say(
        f"{n_tasks} models: {n_tasks * whole:,} numbers. One trunk with {n_tasks} changes: {whole + changes:,}, "
        f"{changes // n_tasks:,} for each further task."
    )
    bundle = load(Path(scratch) / "frozen, a change a task")
    texts = ["She walked near Kibaville .", "They liked Dotameson , it was not fine ."]
    start = time.process_time()
    answers = {
        **bundle.predict(texts, ["pos", "ner", "genre"], source="sentences"),
        **bundle.predict(texts, ["mood"], source="reviews"),
    }
    say(f"All of them, asked of one file in {1000 * (time.process_time() - start):.0f} ms:")
    for task, answer in answers.items():
        say(f"  {task}: {[' '.join(v) if isinstance(v, list) else v for v in answer.values]}")
