"""`polytask fit` on a table of a million rows and thirty columns: seconds, and peak memory over the tensors' size.

The table is generated once: 24 numbers, 4 columns of categories, 2 targets with a third of the labels missing. The fit
runs in a process of its own; its memory is the peak of the resident set above what the imports take, and the tensors
are those of all rows as the network reads them, labels and masks included.

    python bench/fit_million.py [--rows 1000000] [--epochs 1] [--keep FILE.parquet]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FIT = """
import json, resource, sys, time
import polytask.cli.app, polytask.recipe, polytask.training.running, polytask.training.progress
import pyarrow.parquet, torchmetrics.functional, torch, sklearn
from polytask.tasks import registry
from polytask.models.encoders.tabular import Tabular
for kind in ("binary", "regression"):
    registry.load(kind)
model = torch.nn.Linear(8, 8)  # and what PyTorch takes for its first optimiser and backward pass
optimiser = torch.optim.AdamW(model.parameters(), fused=True)
model(torch.randn(256, 8)).sum().backward()
optimiser.step()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
began, cpu = time.perf_counter(), time.process_time()
from polytask.recipe import Recipe
recipe = Recipe(
    tasks={"price": "regression", "ill": "binary"},
    data=sys.argv[1],
    training={"epochs": int(sys.argv[2]), "batch_size": 1024},
)
from polytask.training import running, run as run_room
phases = {}
def timed(room, name):
    inner = getattr(room, name)
    def outer(*args, **kwargs):
        start = time.perf_counter()
        result = inner(*args, **kwargs)
        phases[name] = [time.perf_counter() - start, peak() - before]
        return result
    setattr(room, name, outer)
timed(running, "prepare_recipe")
timed(running, "fit")
def size(prepared):
    total = 0
    for part in (prepared.train, prepared.validation, prepared.test):
        for source in part.values():
            held = [*source.inputs.values(), *source.targets.values(), *source.observed.values()]
            total += sum(tensor.numel() * tensor.element_size() for tensor in held)
    return total
prepared = {}
inner = running.fit
def remember(given, *args, **kwargs):
    prepared["bytes"] = size(given)
    return inner(given, *args, **kwargs)
running.fit = remember
run = recipe.run()
print(json.dumps({
    "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "before": before,
    "peak": peak() - before, "tensors": prepared["bytes"], "phases": phases, "metrics": {
        name: result.metrics[result.metric] for name, result in run.record.tasks.items()},
}))
"""


def generate(path: Path, n: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    columns: dict[str, pa.Array] = {}
    signal = np.zeros(n)
    for i in range(24):
        values = rng.normal(size=n) if i % 3 else rng.integers(0, 1000, n)
        if i < 6:
            signal += np.asarray(values - np.mean(values)) / np.std(values)
        columns[f"x{i}"] = pa.array(values, mask=rng.random(n) < 0.05 if i % 4 == 0 else None)
    for i in range(4):
        columns[f"c{i}"] = pa.array(
            np.array([f"level {k}" for k in range(10 * (i + 1))])[rng.integers(0, 10 * (i + 1), n)]
        )
    columns["price"] = pa.array(signal + rng.normal(size=n), mask=rng.random(n) < 1 / 3)
    columns["ill"] = pa.array(np.where(signal + rng.normal(size=n) > 1, "yes", "no"), mask=rng.random(n) < 1 / 3)
    parquet.write_table(pa.table(columns), path, row_group_size=100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="Keep the table here, and use it again.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.keep or Path(folder) / "table.parquet"
        if not path.exists():
            began = time.perf_counter()
            generate(path, asked.rows)
            print(f"generated in {time.perf_counter() - began:.1f} s, {path.stat().st_size / 1e6:.0f} MB on disk")
        done = subprocess.run(
            [sys.executable, "-c", FIT, str(path), str(asked.epochs)], stdout=subprocess.PIPE, text=True, check=True
        )
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{asked.rows:,} rows x 30 columns, {asked.epochs} epochs of batches of 1,024")
    print(f"  {found['seconds']:.1f} s in all, {found['cpu']:.1f} s of CPU")
    for name, (seconds, peak) in found["phases"].items():
        print(f"    {name:<16} {seconds:6.1f} s   peak so far {peak / 1e6:6.0f} MB")
    print(f"  peak memory {found['peak'] / 1e6:.0f} MB above {found['before'] / 1e6:.0f} MB of imports")
    print(f"  tensors     {found['tensors'] / 1e6:.0f} MB: ratio {found['peak'] / found['tensors']:.2f}")
    print(f"  {found['metrics']}")


if __name__ == "__main__":
    main()
