"""Print what a step costs with each method over plain summation.

python bench/step_cost.py mlp11 --methods nash_mtl mgda --modes exact features --peers --threads 1 2
"""

from __future__ import annotations

import argparse

from polytask.balancing.cost import step_cost
from polytask.balancing.workloads import WORKLOADS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="+", choices=sorted(WORKLOADS))
    parser.add_argument("--methods", nargs="+", default=["nash_mtl"])
    parser.add_argument("--modes", nargs="+", default=["exact", "features", "matrix_free", "every_k"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--peers", action="store_true")
    given = parser.parse_args()
    for name in given.workloads:
        rows = step_cost(
            name, given.methods, given.modes, peers=given.peers, rounds=given.rounds, threads=given.threads
        )
        print(f"\n{name}\n{'method':<22}{'mode':<14}{'threads':>7}{'ms a step':>12}{'ratio':>8}{'extra MB':>10}")
        for row in rows:
            print(
                f"{row.method:<22}{row.mode:<14}{row.threads:>7}{1e3 * row.seconds:>12.2f}{row.ratio:>8.2f}"
                f"{row.extra_memory / 2**20:>10.1f}"
            )


if __name__ == "__main__":
    main()
