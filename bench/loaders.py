"""What reading costs beside learning: tables, images, recordings and texts, in memory and streamed from their files.

Each is measured in a process of its own, with one thread for the arithmetic: processor time of reading a batch over
that of the training step which uses it; the time that the training waits for batches that are read ahead, over all its
time; and the peak of the memory over what the imports take, for a pass over all files of two sizes of the data.

Usage:
    python bench/loaders.py [--rows 1000,8000] [--steps 40] [--fields images,recordings,texts,tables]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from readings import memory, ready_to_step  # its neighbour in this folder

SIDE, BATCH = 64, 32


def write_images(folder: Path, n_rows: int) -> dict[str, Any]:
    """JPEG files in colours, and a table of two labels that some lack."""
    from PIL import Image

    draw = np.random.default_rng(0)
    small = draw.integers(0, 255, (n_rows, 8, 8, 3), dtype=np.uint8)
    for row in range(n_rows):
        image = Image.fromarray(small[row]).resize((SIDE, SIDE))
        image.save(folder / f"{row:06d}.jpg", quality=90)
    frame = pd.DataFrame({"photo": [f"{row:06d}.jpg" for row in range(n_rows)]})
    frame["light"] = small.reshape(n_rows, -1).mean(1)
    frame["red"] = np.where(draw.random(n_rows) < 0.3, None, (small[..., 0].mean((1, 2)) > 127).astype(str))
    frame.to_csv(folder / "labels.csv", index=False)
    return {"path": str(folder / "labels.csv"), "reads": "photo"}


def write_recordings(folder: Path, n_rows: int) -> dict[str, Any]:
    """WAV files of about half a second at 8 kHz."""
    from polytask.data import spoken_syllables, write_wav

    made = spoken_syllables(4, n_speakers=4, n_syllables=10)
    for row in range(n_rows):
        at = row % len(made.waves)
        wave = np.tile(made.waves[at, : round(made.seconds[at] * made.rate)], 3)[:4000]
        write_wav(folder / f"{made.labels['syllable'][at]}_{made.labels['speaker'][at]}_{row:06d}.wav", wave, made.rate)
    return {"path": str(folder), "reads": {"pattern": "(?P<light>[a-z]+)_(?P<red>.*)_[0-9]+"}}


def write_texts(folder: Path, n_rows: int) -> dict[str, Any]:
    """A CSV file of texts of four sentences."""
    from polytask.data import made_up_sentences

    rows = made_up_sentences(4 * min(n_rows, 2000))
    texts = [" ".join(word for r in rows[at : at + 4] for word in r["words"]) for at in range(0, len(rows), 4)]
    frame = pd.DataFrame({"text": [texts[row % len(texts)] for row in range(n_rows)]})
    frame["light"] = [len(text) for text in frame["text"]]
    frame["red"] = [str("not" in text) if row % 3 else None for row, text in enumerate(frame["text"])]
    frame.to_csv(folder / "texts.csv", index=False)
    return {"path": str(folder / "texts.csv"), "reads": "text"}


def write_table(folder: Path, n_rows: int) -> dict[str, Any]:
    """A Parquet file of 40 numbers and a category, ten times the rows."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((10 * n_rows, 40)).astype(np.float32)
    frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(40)])
    frame["user"] = [f"user-{u}" for u in draw.integers(0, 500, len(frame))]
    frame["light"], frame["red"] = x[:, 0] + draw.standard_normal(len(frame)), (x[:, 1] > 0).astype(str)
    frame.to_parquet(folder / "log.parquet", row_group_size=5000, index=False)
    return {"path": str(folder / "log.parquet"), "kinds": {"user": "hashed"}}


FIELDS = {
    "images": (write_images, {"name": "cnn"}, BATCH),
    "recordings": (write_recordings, {"name": "speech"}, BATCH),
    "texts": (write_texts, {"name": "bigru"}, BATCH),
    "tables": (write_table, {"name": "tabm"}, 256),
}


def measure(field: str, spec: dict[str, Any], steps: int, streamed: bool) -> None:
    """Print shares of time, and the peak of the memory of one pass."""
    from polytask import Recipe
    from polytask.data.reading import read_ahead

    torch.set_num_threads(1)
    _, encoder, batch_size = FIELDS[field]
    window = 10_000 if field == "tables" else True
    kinds = {"recordings": "multiclass"}.get(field)
    tasks = {"light": kinds or "regression", "red": kinds or "binary"}
    before = memory("VmRSS")
    recipe = Recipe(
        tasks=tasks,
        data={field: {**spec, "streamed": window if streamed else False}},
        encoder=encoder,
        split={"validation": 0.0, "test": 0.1},
        training={"batch_size": batch_size, "epochs": 1000},
    )
    began = time.perf_counter()
    source, training = ready_to_step(recipe)
    opening = time.perf_counter() - began
    asked = ((source, draw.rows) for draw in training.feed.plan.coming())
    for _ in read_ahead(asked, 2):
        pass
    peak = memory("VmHWM") - before

    reading, learning, waiting = [], [], 0.0
    training.model.train()
    draws = training.feed.plan.coming()
    for step, draw in enumerate(draws):
        if step >= steps:
            break
        clock = [time.process_time()]
        batch = source.batch(draw.rows)
        clock.append(time.process_time())
        training.step([batch])
        clock.append(time.process_time())
        reading.append(clock[1] - clock[0])
        learning.append(clock[2] - clock[1])
    batches = training.feed.epoch(0)
    next(batches)
    began = time.perf_counter()
    for _ in range(min(steps, training.feed.n_steps - 1)):
        asked_at = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - asked_at
        training.step(batch)
    whole = time.perf_counter() - began
    read, learned = float(np.median(reading[2:])), float(np.median(learning[2:]))
    print(
        f"{field:10} {len(source):7,} rows {'streamed ' if streamed else 'in memory'}: reading {1e3 * read:6.2f} ms "
        f"of processor a batch, a step {1e3 * learned:6.1f} ms: {read / learned:6.1%}; waited {waiting / whole:6.1%} "
        f"of the time; opened in {opening:.1f} s, peak {peak:,.0f} MiB",
        flush=True,
    )


def main() -> None:
    import json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,8000", help="numbers of rows")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--fields", default=",".join(FIELDS))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        field, spec, how = options.measure
        measure(field, json.loads(spec), options.steps, how == "streamed")
        return
    for field in options.fields.split(","):
        for n_rows in map(int, options.rows.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                spec = json.dumps(FIELDS[field][0](Path(folder), n_rows))
                for how in ("memory", "streamed"):
                    command = [sys.executable, __file__, "--steps", str(options.steps), "--measure", field, spec, how]
                    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
