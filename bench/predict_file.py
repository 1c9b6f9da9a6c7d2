"""Peak memory of ``polytask predict`` for files of several lengths: it should not grow with the file.

python bench/predict_file.py --rows 50000,200000
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

INPUTS = [f"x{i}" for i in range(20)]
# The peak as Linux counts it for the program alone; getrusage would count the parent's memory before the exec too.
CHILD = """
import sys, time
from polytask.bundle import load
from polytask.serving.streaming import predict_file
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
bundle = load(sys.argv[1])
before, began = peak(), time.perf_counter()
predict_file(bundle, sys.argv[2], sys.argv[3])
print(f"{before:.0f} {peak():.0f} {time.perf_counter() - began:.1f}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="50000,200000")
    lengths = [int(n) for n in parser.parse_args().rows.split(",")]
    from polytask import Recipe

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(500, 20)), columns=INPUTS)
    frame["price"], frame["size"] = frame["x0"] + frame["x1"], frame["x1"] - frame["x2"]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        encoder = {"name": "tabular", "width": 32}
        Recipe(tasks=["price", "size"], encoder=encoder, training={"epochs": 2}).run(frame, out=home / "run")
        print(f"{'rows':>10} {'file MB':>8} {'loaded MB':>10} {'peak MB':>8} {'s':>7}")
        for n in lengths:
            data = home / f"{n}.parquet"
            pd.DataFrame(rng.normal(size=(n, 20)), columns=INPUTS).to_parquet(data, row_group_size=50_000)
            command = [sys.executable, "-c", CHILD, str(home / "run"), str(data), str(home / f"{n}.out.parquet")]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            print(f"{n:>10,} {data.stat().st_size / 2**20:>8.0f} {told[0]:>10} {told[1]:>8} {told[2]:>7}", flush=True)


if __name__ == "__main__":
    main()
