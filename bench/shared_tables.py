"""Writes the public research tables of a data folder as CSV files that `polytask fit` and `polytask study` read.

    python bench/shared_tables.py --data ../shared/data --out tables

adult (three targets made as in the mixture-of-experts literature), adult_10k (10,000 of its rows), enb, jura, oes10,
sf2, school (a target column for each school, so that each row has one label), school_long (a column `school` and a
column `score`) and, if rdkit is there, tox21 with 1,024 bits of Morgan fingerprints. The tables parkinsons and tox21
(with SMILES) are read as they are.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import arff, loadmat

ADULT = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]
N_TARGETS = {"enb": 2, "jura": 3, "oes10": 16, "sf2": 3}


def adult(folder: Path) -> pd.DataFrame:
    """Income over 50,000, never married, and years of education; rows of both files, training rows first."""
    parts = [
        pd.read_csv(folder / name, names=ADULT, skipinitialspace=True, na_values="?", skiprows=skip)
        for name, skip in (("adult.data", 0), ("adult.test", 1))
    ]
    table = pd.concat(parts, ignore_index=True)
    table["income"] = table["income"].str.rstrip(".")
    table["never-married"] = table["marital-status"] == "Never-married"
    return table


def mulan(folder: Path, name: str) -> pd.DataFrame:
    """A multi-target table; its last columns are the targets, named target-1, target-2, ..."""
    table = pd.DataFrame(arff.loadarff(folder / f"{name}.arff")[0])
    for column in table.select_dtypes(object):
        table[column] = table[column].str.decode("utf-8")
    n = N_TARGETS[name]
    names = [*(f"input-{i + 1}" for i in range(table.shape[1] - n)), *(f"target-{i + 1}" for i in range(n))]
    return table.set_axis(names, axis=1)


def school(folder: Path) -> pd.DataFrame:
    """Every pupil a row; the score stands in the column of the pupil's school."""
    data = loadmat(folder / "school.mat")
    inputs = np.concatenate([x.astype(float) for x in data["X"][0]])
    table = pd.DataFrame(inputs, columns=[f"input-{i + 1}" for i in range(inputs.shape[1])])
    scores = np.full((len(table), data["Y"].shape[1]), np.nan)
    start = 0
    for task, y in enumerate(data["Y"][0]):
        scores[start : start + len(y), task] = y.ravel()
        start += len(y)
    return table.join(pd.DataFrame(scores, columns=[f"school-{i + 1}" for i in range(scores.shape[1])]))


def school_long(folder: Path) -> pd.DataFrame:
    """Every pupil a row, with the school and the score."""
    table = school(folder)
    scores = table.filter(regex="^school-")
    names = scores.columns.str.removeprefix("school-").astype(int)
    long = table.drop(columns=scores.columns)
    return long.assign(school=names[scores.notna().to_numpy().argmax(1)], score=scores.max(axis=1))


def tox21(folder: Path) -> pd.DataFrame:
    """Twelve assays and fingerprints; a molecule that comes twice is kept once."""
    from rdkit.Chem import MolFromSmiles
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    table = pd.read_csv(folder / "tox21.csv.gz").drop_duplicates("smiles").drop(columns="mol_id")
    generator = GetMorganGenerator(radius=2, fpSize=1024)
    molecules = [MolFromSmiles(text) for text in table["smiles"]]
    keep = np.array([molecule is not None for molecule in molecules])
    bits = np.stack([generator.GetFingerprintAsNumPy(m) for m in molecules if m is not None])
    bits = pd.DataFrame(bits, columns=[f"bit-{i}" for i in range(bits.shape[1])])
    return table[keep].drop(columns="smiles").reset_index(drop=True).join(bits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tables = {name: lambda name=name: mulan(arguments.data / "mulan_mtr", name) for name in N_TARGETS}
    tables |= {"adult": lambda: adult(arguments.data / "adult"), "school": lambda: school(arguments.data / "school")}
    tables["adult_10k"] = lambda: adult(arguments.data / "adult").sample(10_000, random_state=0)
    tables["school_long"] = lambda: school_long(arguments.data / "school")
    if importlib.util.find_spec("rdkit"):
        tables["tox21"] = lambda: tox21(arguments.data / "tox21")
    else:
        print("tox21 is left out: it needs rdkit, pip install 'polytask[chem]'.")
    for name, make in tables.items():
        table = make()
        table.to_csv(arguments.out / f"{name}.csv", index=False)
        print(f"{name}.csv: {len(table)} rows, {table.shape[1]} columns")


if __name__ == "__main__":
    main()
