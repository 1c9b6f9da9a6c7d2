"""A log that stays in its Parquet file: seconds of reading over those of a training step, and memory as it grows.

Each size is measured in a process of its own: an epoch of batches from the file alone, the same with training steps,
and the peak of the memory over what the imports take. Beside it the table in memory.

Usage:
    python bench/streamed.py [--rows 200000,800000]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from readings import memory, ready_to_step  # its neighbour in this folder

COLUMNS = 40
BATCH = 512


def write_log(path: Path, n_rows: int) -> None:
    """Row groups one at a time, so that the writer needs no more memory for a long log."""
    import pyarrow as pa
    from pyarrow import parquet

    draw = np.random.default_rng(0)
    writer = None
    for start in range(0, n_rows, 20_000):
        n = min(20_000, n_rows - start)
        x = draw.standard_normal((n, COLUMNS)).astype(np.float32)
        frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(COLUMNS)])
        frame["user"] = [f"user-{u}" for u in draw.integers(0, 5000, n)]
        frame["click"] = draw.random(n) < 1 / (1 + np.exp(-x[:, 0]))
        table = pa.Table.from_pandas(frame, preserve_index=False)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=n)
    if writer is not None:
        writer.close()


def measure(path: str, streamed: bool) -> None:
    from polytask import Recipe

    torch.set_num_threads(1)
    source = {"path": path, "kinds": {"user": "hashed"}, "scaling": "standard"}
    recipe = Recipe(
        tasks={"click": "binary"},
        data={"log": {**source, "streamed": 50_000} if streamed else source},
        encoder={"name": "tabular", "width": 192},
        split={"validation": 0.0, "test": 0.1},
        training={"batch_size": BATCH, "epochs": 1},
    )
    before = memory("VmRSS")
    train, training = ready_to_step(recipe)
    model, objective = training.model, training.objective
    optimiser = torch.optim.AdamW(model.parameters())
    reading = stepping = 0.0
    steps = 0
    for draw in training.feed.plan.epoch():
        start = time.process_time()
        batch = train.batch(draw.rows)
        middle = time.process_time()
        losses = objective(model(batch.inputs, None, batch.source), batch)
        optimiser.zero_grad()
        sum(loss for loss in losses.values() if loss is not None).backward()
        optimiser.step()
        reading, stepping, steps = reading + middle - start, stepping + time.process_time() - middle, steps + 1
    peak = memory("VmHWM") - before
    rows = len(train)
    how = "streamed " if streamed else "in memory"
    print(
        f"{rows:9,} rows {how}: reading {100 * reading / stepping:5.1f} % of a step ({1000 * reading / steps:.2f} of "
        f"{1000 * stepping / steps:.2f} ms), peak over the imports {peak:.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="200000,800000", help="numbers of rows")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], options.measure[1] == "streamed")
        return
    for n_rows in map(int, options.rows.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.parquet"
            write_log(path, n_rows)
            print(f"{n_rows:,} rows x {COLUMNS + 2} columns, {path.stat().st_size / 2**20:.0f} MiB of Parquet")
            for how in ("memory", "streamed"):
                subprocess.run([sys.executable, __file__, "--measure", str(path), how], check=True)


if __name__ == "__main__":
    main()
