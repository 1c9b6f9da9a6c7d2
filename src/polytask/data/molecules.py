"""A column of molecules, written as SMILES, to the bits of a fingerprint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from polytask.errors import InputError, MissingExtraError

__all__ = ["MoleculeColumn", "canonical"]

_RADIUS, _SIZE = 2, 1024
_RARE = 0.005
"""A bit that fewer of the training rows have tells little; with 1,024 of them it costs much."""
_REMEMBERED = 200_000


@dataclass(frozen=True)
class MoleculeColumn:
    """A column of SMILES as bits of a Morgan fingerprint, 0 or 1; a missing molecule has none.

    Bits that fewer than 0.5 % of the training rows have (or fewer than two), or all of them, are left out.

    Args:
        name: The column.
        bits: Positions in the fingerprint.
        radius: Bonds around each atom that a bit may be about.
        size: Bits of the fingerprint.

    Note:
        Atoms of unusual valence are taken as they are written. The fingerprint is RDKit's (extra ``chem``).

    References:
        Rogers & Hahn, Extended-Connectivity Fingerprints, Journal of Chemical Information and Modeling 50, 2010.
    """

    name: str
    bits: tuple[int, ...]
    radius: int = _RADIUS
    size: int = _SIZE

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the bits."""
        return tuple(f"{self.name} (bit {bit})" for bit in self.bits)

    @classmethod
    def fit(cls, name: str, values: pd.Series[Any]) -> MoleculeColumn:
        """Learn from the training rows which bits say something.

        Raises:
            InputError: If a text is no molecule.
            MissingExtraError: If RDKit is not installed.
        """
        counts = _bits(name, values, _RADIUS, _SIZE).sum(0, dtype=np.int64)
        kept = (counts >= max(2, _RARE * len(values))) & (counts < len(values))
        return cls(name, tuple(np.flatnonzero(kept).tolist()))

    def encode(self, values: pd.Series[Any], out: np.ndarray) -> None:
        """Write the bits into ``out``, ``[N, len(bits)]``.

        Raises:
            InputError: If a text is no molecule.
        """
        out[:] = _bits(self.name, values, self.radius, self.size)[:, list(self.bits)]

    def check(self, cell: str) -> None:
        """Raise if a cell does not hold a molecule.

        Raises:
            ValueError: If so.
        """
        if _fingerprint(cell, self.radius, self.size) is None:
            raise ValueError(f"{cell!r} is no molecule")

    def state(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {**asdict(self), "bits": list(self.bits)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> MoleculeColumn:
        """Take back what :meth:`state` gave."""
        return cls(state["name"], tuple(state["bits"]), state["radius"], state["size"])


def canonical(name: str, values: pd.Series[Any]) -> list[str | None]:
    """One text for each molecule, however it is written; ``None`` where it is missing.

    Raises:
        InputError: If a text is no molecule.
        MissingExtraError: If RDKit is not installed.
    """
    codes, texts = _texts(name, values)
    table = [*(_canonical(text) for text in texts), None]
    return [table[code] for code in codes]


def _bits(name: str, values: pd.Series[Any], radius: int, size: int) -> np.ndarray:
    codes, texts = _texts(name, values)
    found = np.zeros((len(texts) + 1, size), dtype=np.uint8)  # the last row is where the -1 of a missing value points
    for row, text in enumerate(texts):
        found[row] = np.unpackbits(np.frombuffer(_fingerprint(text, radius, size) or b"", dtype=np.uint8), count=size)
    rows: np.ndarray = found[codes]
    return rows


def _texts(name: str, values: pd.Series[Any]) -> tuple[np.ndarray, list[str]]:
    """Which of the different texts stands in each row, -1 for none.

    Raises:
        InputError: Naming the first rows whose text is no molecule.
    """
    texts = values.astype(object).where(values.notna(), None).map(lambda v: str(v).strip() or None, na_action="ignore")
    codes, distinct = pd.factorize(texts)
    known = [str(text) for text in distinct]
    try:
        bad = [code for code, text in enumerate(known) if _fingerprint(text, _RADIUS, _SIZE) is None]
    except ImportError as error:
        raise MissingExtraError(f"Column {name!r} holds molecules; reading them", "rdkit", "chem") from error
    if bad:
        rows = np.flatnonzero(np.isin(codes, bad))
        some = ", ".join(f"row {values.index[row]} has {str(values.iloc[row])!r}" for row in rows[:3])
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        raise InputError(
            f"Column {name!r} needs SMILES of molecules; {some}{more}. Correct these cells, or leave them empty."
        )
    return codes, known


def _molecule(text: str) -> Any:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text, sanitize=False)
        if molecule is None or not molecule.GetNumAtoms():
            return None
        # Valences are not checked: salts and metal complexes often are written against the rules.
        molecule.UpdatePropertyCache(strict=False)
        rest = Chem.SanitizeFlags.SANITIZE_ALL ^ Chem.SanitizeFlags.SANITIZE_PROPERTIES
        failed = Chem.SanitizeMol(molecule, rest, catchErrors=True)
    return None if failed else molecule


@lru_cache(maxsize=_REMEMBERED)
def _fingerprint(text: str, radius: int, size: int) -> bytes | None:
    """The bits, eight to a byte; ``None`` if the text is no molecule. Remembered: each fold reads them again."""
    molecule = _molecule(text)
    if molecule is None:
        return None
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    generator = GetMorganGenerator(radius=radius, fpSize=size)
    return np.packbits(generator.GetFingerprintAsNumPy(molecule)).tobytes()


@lru_cache(maxsize=_REMEMBERED)
def _canonical(text: str) -> str:
    from rdkit.Chem import MolToSmiles

    return str(MolToSmiles(_molecule(text)))
