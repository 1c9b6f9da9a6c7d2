"""Studies of the public tables, and the table of what they found, from their records alone.

    python bench/shared_tables.py --data FOLDER --out tables
    python bench/public_studies.py --data FOLDER --tables tables --out runs
    python bench/public_studies.py --out runs --records-only

Every row is one ``polytask study`` command, which is printed; a study that is there is not run again, and one that was
interrupted goes on.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from polytask.records import StudyRecord

ASSAYS = "NR-AR,NR-AR-LBD,NR-AhR,NR-Aromatase,NR-ER,NR-ER-LBD,NR-PPAR-gamma,SR-ARE,SR-ATAD5,SR-HSE,SR-MMP,SR-p53"


def numbered(n: int, kind: str = "") -> str:
    return ",".join(f"target-{i + 1}{kind}" for i in range(n))


ARMS = "--arms linear,boosting,joint,single"
FORESTS = f"{ARMS},joint_forest"
STUDIES = {
    "enb": f"{{tables}}/enb.csv --targets {numbered(2)} {FORESTS}",
    "jura": f"{{tables}}/jura.csv --targets {numbered(3)} {FORESTS}",
    "sf2": f"{{tables}}/sf2.csv --targets {numbered(3, ':regression')} {FORESTS}",
    "oes10": f"{{tables}}/oes10.csv --targets {numbered(16)} {ARMS} --folds 3 --set training.epochs=40",
    "parkinsons": (
        "{data}/parkinsons/parkinsons_updrs.csv --targets motor_UPDRS,total_UPDRS --group 'subject#' "
        f"{ARMS} --folds 3 --set training.epochs=6"
    ),
    "adult": (
        "{tables}/adult_10k.csv --targets income,never-married,education-num:regression "
        "--drop fnlwgt,education,marital-status,relationship --holdout 0.2 --repeats 2 "
        f"{ARMS} --set training.epochs=10"
    ),
    "school": (
        "{tables}/school_long.csv --targets score --by school --holdout 0.2 --repeats 3 "
        "--arms linear,joint,single,pooled,joint_linear:mean_regularised --set training.epochs=8"
    ),
    "tox21": (
        f"{{data}}/tox21/tox21.csv.gz --targets {ASSAYS} --set kinds.smiles=molecule --drop mol_id --holdout 0.2 "
        f"--repeats 3 {ARMS} --set training.epochs=5"
    ),
}
"""Arms are named, without a budget: that is time on the clock, and a machine with other work would drop some."""
SHOWN = ("joint", "single", "boosting", "linear")


def run(name: str, asked: argparse.Namespace) -> None:
    out = asked.out / name
    if (out / "study.json").exists():
        return
    given = shlex.split(STUDIES[name].format(tables=asked.tables, data=asked.data))
    command = [
        sys.executable,
        "-m",
        "polytask.cli",
        "study",
        *given,
        "--budget",
        "none",
        "--out",
        str(out),
        "--workers",
        str(asked.workers),
    ]
    command += ["--resume"] if out.exists() else []
    print("polytask " + shlex.join(command[3:]), flush=True)
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)


def row(name: str, record: StudyRecord) -> tuple[str, float | None, float | None, float | None]:
    """A row of the table; and what was recommended, the best outsider and the joint network as numbers."""
    means = {arm: mean(result.error, record) for arm, result in record.arms.items()}
    chosen = mean(record.recommendation.error, record)
    outsider = record.recommendation.best_outsider
    known = [value for value in [*means.values(), chosen] if value is not None]
    others = [f"{arm} {bold(value, min(known))}" for arm, value in means.items() if arm not in SHOWN]
    counts = Counter(verdict.verdict for verdict in record.verdicts.values())
    used = Counter(record.recommendation.arms.values()).most_common(2)
    cells = [
        name,
        str(len(record.tasks)),
        f"{len(record.folds)} {'seeds' if record.settings.get('holdout') else 'folds'}",
        *(bold(means.get(arm), min(known)) for arm in SHOWN),
        ", ".join(others) or "-",
        bold(chosen, min(known)),
        ", ".join(f"{arm} ({count})" for arm, count in used),
        outsider or "-",
        " / ".join(str(counts[what]) for what in ("helped", "hurt", "no evidence")) if counts else "-",
    ]
    return "| " + " | ".join(cells) + " |", chosen, means.get(outsider or ""), means.get("joint")


def mean(errors: dict, record: StudyRecord) -> float | None:
    """Mean over the tasks; ``None`` unless all of them are served."""
    values = [errors[task].mean for task in record.tasks]
    return None if any(value is None for value in values) else float(np.mean(values))


def bold(value: float | None, best: float) -> str:
    return "-" if value is None else f"**{value:.3f}**" if value == best else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with parkinsons/ and tox21/")
    parser.add_argument("--tables", type=Path, help="what bench/shared_tables.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--records-only", action="store_true", help="print the table of the records that are there")
    asked = parser.parse_args()
    if not asked.records_only:
        if asked.data is None or asked.tables is None:
            parser.error("the studies need --data and --tables")
        for name in asked.only:
            run(name, asked)
    heads = ["table", "tasks", "tests", *SHOWN, "other arms", "recommended", "used for", "best outsider", "verdicts"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    numbers = []
    for name in asked.only:
        if (asked.out / name / "study.json").exists():
            line, *found = row(name, StudyRecord.load(asked.out / name))
            print(line)
            numbers.append(found)
    if numbers:
        table = np.array(numbers, dtype=float)
        for what, column in (("recommended", table[:, 0]), ("joint", table[:, 2])):
            both = ~np.isnan(column) & ~np.isnan(table[:, 1])
            ours, theirs = column[both], table[both, 1]
            ratio = np.exp(np.log(ours / theirs).mean())
            print(
                f"\n{what}: mean of {len(ours)} tables {ours.mean():.4f}, best outsider {theirs.mean():.4f}; "
                f"geometric mean of the ratios {ratio:.3f}; better on {(ours < theirs).sum()}"
            )


if __name__ == "__main__":
    main()
