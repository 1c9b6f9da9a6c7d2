"""The data path, measured: batches a second over torch's DataLoader; a large Parquet file to tensors; a large split.

Usage:
    python bench/data_path.py [--rows 1000000] [--columns 30]
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from readings import memory  # its neighbour in this folder


def batches_per_second(n_rows: int = 100_000, n_columns: int = 30, batch_size: int = 256, rounds: int = 3) -> None:
    from torch.utils.data import DataLoader, TensorDataset

    from polytask.data import ArraySource, BatchPlan

    x, y = torch.randn(n_rows, n_columns), torch.randn(n_rows)
    seen = torch.ones(n_rows, dtype=torch.bool)
    source = ArraySource("table", {"numeric": x}, {"y": y}, {"y": seen})
    plan = BatchPlan({"table": n_rows}, batch_size, seed=0)
    loader = DataLoader(TensorDataset(x, y, seen), batch_size=batch_size, shuffle=True)
    ratios = []
    for _ in range(rounds):
        start = time.perf_counter()
        ours = sum(len(source.batch(draw.rows)) > 0 for draw in plan.epoch())
        ours_time = time.perf_counter() - start
        start = time.perf_counter()
        theirs = sum(1 for _ in loader)
        ratios.append((ours / ours_time) / (theirs / (time.perf_counter() - start)))
    print(
        f"batches of {batch_size} x {n_columns} from memory: {ours / ours_time:,.0f} a second, "
        f"{np.median(ratios):.1f} times DataLoader (rounds {', '.join(f'{r:.1f}' for r in ratios)})"
    )


def write_parquet(path: Path, n_rows: int, n_columns: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    arrays = {}
    for j in range(n_columns - 5):
        values = rng.standard_normal(n_rows)
        arrays[f"x{j}"] = pa.array(values, mask=rng.random(n_rows) < 0.05 if j % 5 == 0 else None)
    for j in range(3):
        arrays[f"c{j}"] = pa.array(np.array([f"class {k}" for k in range(50)]).take(rng.integers(0, 50, n_rows)))
    arrays["a"] = pa.array(arrays["x0"].to_numpy(zero_copy_only=False) + rng.standard_normal(n_rows))
    arrays["b"] = pa.array(rng.random(n_rows) < 0.3, mask=rng.random(n_rows) < 0.2)
    pq.write_table(pa.table(arrays), path)


def measure_parquet(path: str) -> None:
    """In a process of its own: time and peak memory from the file to a source with its splits."""
    from polytask.data import BatchPlan, RowsOf, TableTransform, fit_tasks, holdout, open_table, table_source
    from polytask.tasks import registry

    # Everything is imported before the memory is read.
    importlib.import_module("pyarrow.parquet")
    registry.create("regression", name="warm").fit(np.arange(10.0))
    warm = {"x": np.arange(40.0), "c": list("abcd") * 10}
    TableTransform().fit_transform(warm)
    before = memory("VmRSS")
    start = time.perf_counter()
    table = open_table(path)
    tasks = [registry.create("regression", name="a"), registry.create("binary", name="b")]
    inputs = [name for name in table.names if name not in ("a", "b")]
    split = holdout(len(table), validation=0.2, seed=0)
    fit_tasks(tasks, table, split.train)
    transform = TableTransform(inputs).fit(table, split.train)
    source = table_source("table", table, tasks, transform)
    train = RowsOf(source, torch.from_numpy(split.train))
    plan = BatchPlan({"table": len(train)}, 256)
    for draw in plan.epoch():
        train.batch(draw.rows)
    seconds = time.perf_counter() - start
    tensors = [*source.inputs.values(), *source.targets.values(), *source.observed.values()]
    size = sum(t.numel() * t.element_size() for t in tensors)
    peak = memory("VmHWM") - before
    print(
        f"{len(table):,} rows x {len(table.names)} columns of Parquet to tensors, and one epoch of batches: "
        f"{seconds:.1f} s; tensors {size / 2**20:.0f} MiB, peak over the imports {peak:.0f} MiB, "
        f"ratio {2**20 * peak / size:.2f}"
    )


def time_splits(n_rows: int = 100_000, n_labels: int = 20) -> None:
    from polytask.data import k_folds

    rng = np.random.default_rng(0)
    rates = np.geomspace(0.0005, 0.5, n_labels)
    labels = {
        f"t{i}": np.where(rng.random(n_rows) < 0.3, np.nan, rng.random(n_rows) < rates[i]) for i in range(n_labels)
    }
    start = time.perf_counter()
    k_folds(n_rows, 5, labels=labels)
    print(f"5 folds of {n_rows:,} rows, stratified over {n_labels} labels: {time.perf_counter() - start:.2f} s")


def share_of_scenes(n_rows: int = 256, size: int = 32, batch_size: int = 32, steps: int = 12) -> None:
    """Processor time of a batch of images with masks, depth and boxes, moved and turned, over that of its step."""
    from polytask.data import composed_scenes
    from polytask.models.building import build_model
    from polytask.models.inputs import InputShape
    from polytask.models.spec import ModelSpec
    from polytask.tasks import registry
    from polytask.training.data_sets import ArrayData
    from polytask.training.variation import Variation

    scenes = composed_scenes(n_rows, size)
    tasks = [
        registry.create("segmentation", name="mask"),
        registry.create("dense_regression", name="depth"),
        registry.create("detection", name="boxes", size=(size, size)),
    ]
    for task in tasks:
        task.fit(getattr(scenes, task.name))
    labels = {task.name: getattr(scenes, task.name) for task in tasks}
    source = ArrayData("scenes", scenes.images, labels).source(tasks, np.arange(n_rows))
    shapes = {"scenes": InputShape.of(source.inputs)}
    names = tuple(task.name for task in tasks)
    outputs = {task.name: task.n_outputs for task in tasks}
    model = build_model(ModelSpec(shapes, outputs, encoder="unet", element_tasks=names, pixel_tasks=names))
    variation = Variation({"scenes": [("shift", {}), ("rotate", {})]}, shapes, 0, tasks)
    spent = {"batch": [], "labels moved": [], "step": []}
    for step in range(steps):
        clock = [time.process_time()]
        batch = source.batch(torch.randint(n_rows, (batch_size,)))
        clock.append(time.process_time())
        (batch,) = variation([batch], step)
        clock.append(time.process_time())
        found = model(batch.inputs)
        losses = [task.loss(found[task.name], batch.targets[task.name], batch.observed[task.name]) for task in tasks]
        sum(loss.mean() for loss in losses).backward()
        clock.append(time.process_time())
        for name, before, after in zip(spent, clock, clock[1:], strict=False):
            spent[name].append(after - before)
    medians = {name: float(np.median(times[2:])) for name, times in spent.items()}
    loader = medians["batch"] + medians["labels moved"]
    print(
        f"{batch_size} scenes of {size} x {size} with masks, depth and boxes: {1e3 * medians['batch']:.1f} ms a batch, "
        f"{1e3 * medians['labels moved']:.1f} ms to move and turn it and its labels, {1e3 * medians['step']:.0f} ms a "
        f"step of a U-Net: {loader / (loader + medians['step']):.1%} of the whole"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.measure:
        measure_parquet(options.measure)
        return
    batches_per_second()
    share_of_scenes()
    time_splits()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        write_parquet(path, options.rows, options.columns)
        subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True)


if __name__ == "__main__":
    main()
