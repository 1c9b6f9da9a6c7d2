"""The data path of recordings, measured: files to waves, and what a batch costs beside the step that learns from it.

Usage:
    python bench/speech_path.py [--digits recordings.zip] [--steps 40]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from polytask.data import BatchPlan, array_source, read_recordings, spoken_strings, write_wav
from polytask.models.building import build_model
from polytask.models.inputs import InputShape
from polytask.models.spec import ModelSpec
from polytask.tasks import registry


def time_files(path: Path, pattern: str) -> None:
    start = time.process_time()
    read = read_recordings(path, pattern=pattern, seconds=0.8)
    took = time.process_time() - start
    print(
        f"{len(read.waves):,} WAV files to one array of {read.waves.nbytes / 2**20:.0f} MiB: {took:.2f} s, "
        f"{len(read.waves) / took:,.0f} files and {read.seconds.sum() / took:,.0f} s of sound a second"
    )


def time_steps(n_steps: int, batch_size: int = 32) -> None:
    """Processor seconds of fetching batches, and of the steps, taken in turns."""
    made = spoken_strings(300, n_syllables=5, length=(1, 3))
    tasks = [registry.create("transcription", name="text"), registry.create("multiclass", name="speaker")]
    for task in tasks:
        task.fit(made.labels[task.name])
    source = array_source("recordings", made.waves, dict(made.labels), tasks)
    spec = ModelSpec(
        {"recordings": InputShape.of(torch.zeros(1, made.waves.shape[1]))},
        {task.name: task.n_outputs for task in tasks},
        encoder="speech_frames",
        encoder_options={"n_mels": 32, "hop": 0.016, "channels": [16, 32], "halvings": 1},
        links={task.name: task.link for task in tasks},
        element_tasks=("text",),
    )
    model = build_model(spec)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    plan = BatchPlan({"recordings": len(made.waves)}, batch_size, seed=0)
    loading = stepping = 0.0
    done = 0
    while done < n_steps:
        for draw in plan.epoch():
            start = time.process_time()
            batch = source.batch(draw.rows)
            loaded = time.process_time()
            outputs = model(batch.inputs)
            losses = [
                task.loss(outputs[task.name], batch.targets[task.name], batch.observed[task.name]).mean()
                for task in tasks
            ]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
            if done >= 2:  # the first steps allocate
                loading, stepping = loading + loaded - start, stepping + time.process_time() - loaded
            done += 1
            if done >= n_steps:
                break
    n = n_steps - 2
    print(
        f"batches of {batch_size} recordings of {made.seconds.mean():.2f} s: {1e3 * loading / n:.2f} ms to fetch, "
        f"{1e3 * stepping / n:.0f} ms a step; fetching is {100 * loading / stepping:.2f} % of the step"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, help="zip archive of WAV files; made-up ones if left out")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.digits:
        time_files(options.digits, "(?P<digit>[0-9])_(?P<speaker>[a-z]+)_(?P<take>[0-9]+)")
    else:
        made = spoken_strings(500)
        with tempfile.TemporaryDirectory() as folder:
            for row, wave in enumerate(made.waves):
                write_wav(Path(folder) / f"{made.labels['text'][row]}_{row}.wav", wave, made.rate)
            time_files(Path(folder), "(?P<text>[a-z]*)_[0-9]+")
    time_steps(options.steps)


if __name__ == "__main__":
    main()
