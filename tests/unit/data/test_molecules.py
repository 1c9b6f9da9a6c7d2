import sys

import numpy as np
import pandas as pd
import pytest

from polytask.data.molecules import MoleculeColumn, canonical
from polytask.data.transform import TableTransform
from polytask.errors import InputError, MissingExtraError

SMILES = ["CCO", "c1ccccc1O", "CC(=O)O", None, "c1ccccc1", "CCN", "OCC", "C[Al](C)(C)(C)(C)C"]


def table() -> dict[str, list]:
    return {"smiles": SMILES, "dose": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]}


def test_bits_are_those_of_rdkits_morgan_fingerprint():
    from rdkit.Chem import MolFromSmiles
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    readable = [text for text in SMILES[:7] if text]
    bits = np.stack(
        [GetMorganGenerator(radius=2, fpSize=1024).GetFingerprintAsNumPy(MolFromSmiles(text)) for text in readable]
    )
    column = MoleculeColumn.fit("smiles", pd.Series(readable))
    assert column.bits == tuple(np.flatnonzero((bits.sum(0) >= 2) & (bits.sum(0) < len(bits))))
    out = np.empty((len(readable), len(column.bits)), dtype=np.float32)
    column.encode(pd.Series(readable), out)
    np.testing.assert_array_equal(out, bits[:, list(column.bits)])


def test_a_transform_with_molecules_comes_back_from_its_state():
    transform = TableTransform(kinds={"smiles": "molecule"}).fit(table())
    tensors = transform.transform(table())
    assert list(tensors) == ["numeric", "molecule"]
    assert tensors["molecule"].shape == (8, transform.n_bits)
    assert tensors["molecule"][3].sum() == 0, "a missing molecule has no bit"
    assert (tensors["molecule"][0] == tensors["molecule"][6]).all(), "two ways to write ethanol"
    again = TableTransform().load_state(transform.state())
    assert (again.transform(table())["molecule"] == tensors["molecule"]).all()
    assert transform.positions(["smiles"])["molecule"] == tuple(range(transform.n_bits))


def test_one_text_for_a_molecule_however_it_is_written():
    found = canonical("smiles", pd.Series(SMILES))
    assert found[0] == found[6]
    assert found[3] is None
    assert len(set(found)) == 7


def test_unreadable_texts_are_named_by_their_rows():
    values = pd.Series(["CCO", "no molecule", "C1CC"], index=[0, 7, 9])
    with pytest.raises(InputError, match="row 7 has 'no molecule', row 9 has 'C1CC'"):
        MoleculeColumn.fit("smiles", values)


def test_without_rdkit(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'polytask\[chem\]'"):
        MoleculeColumn.fit("smiles", pd.Series(["CCCCCCCCCCCF", "CCCCCCCCCCCCl"]))
