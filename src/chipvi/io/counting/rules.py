"""Where on the genome a read or a fragment counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..._arguments import LONGEST, require_whole

RULES = ("five_prime", "shifted", "center", "overlap")


@dataclass(frozen=True, eq=False)
class Reads:
    """Some reads or fragments of one file, after the filters; the arrays have one value for each.

    Parameters
    ----------
    contigs
        Names to which `contig` points.
    contig
        Place in `contigs`, int64.
    start, end
        What the read, or the whole fragment, covers of the genome: bp, int64, 0-based, half-open.
    strand
        1, -1, or 0 where it is not known; of a pair it is that of its first read. Its sign is all that is used, in no
        arithmetic, so its type may be narrow.
    is_fragment
        Whether both ends of the fragment are known, as from a pair.
    """

    contigs: tuple[str, ...]
    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray
    strand: np.ndarray
    is_fragment: np.ndarray


@dataclass(frozen=True)
class CountingRule:
    """How a read becomes a place: one position, or all that it covers.

    Parameters
    ----------
    name
        One of `RULES`; :func:`chipvi.io.count_reads` describes each.
    fragment_length
        Of reads without a mate, in bp; only "shifted" uses it.
    strand_shift
        Added first to 5' ends on the plus and on the minus strand, in bp.

    Raises
    ------
    ValueError
        If the rule is not known, or a number is not whole or out of range.
    """

    name: str = "shifted"
    fragment_length: int = 150
    strand_shift: Sequence[int] = (0, 0)

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}; it is {self.name!r}.")
        require_whole("fragment_length", self.fragment_length, least=1, unit="bp")
        if np.shape(self.strand_shift) != (2,):
            raise ValueError(
                f"strand_shift must be two numbers, for the plus and the minus strand; it is {self.strand_shift!r}."
            )
        for shift in self.strand_shift:
            require_whole("strand_shift", shift, least=-LONGEST, unit="bp")
        # Python's own: with NumPy's uint64 a place would be a float
        object.__setattr__(self, "fragment_length", int(self.fragment_length))
        object.__setattr__(self, "strand_shift", tuple(map(int, self.strand_shift)))

    def place(self, reads: Reads) -> tuple[np.ndarray, np.ndarray]:
        """Start and end of where each read counts, in bp, 0-based, half-open; it may lie off the chromosome.

        Examples
        --------
        >>> one = np.array([100, 100])
        >>> reads = Reads(("chr1",), one * 0, one, one + 36, np.array([1, -1]), np.array([False, False]))
        >>> CountingRule("shifted", fragment_length=150).place(reads)
        (array([175,  60]), array([176,  61]))
        """
        start, end = self._moved(reads)
        if self.name == "overlap":
            return start, end
        if self.name == "center":
            position = (start + end) // 2
        else:
            half = self.fragment_length // 2 if self.name == "shifted" else 0
            position = np.where(reads.strand < 0, end - 1 - half, start + half)
            if self.name == "shifted":
                position = np.where(reads.is_fragment, (start + end) // 2, position)
        return position, position + 1

    def _moved(self, reads: Reads) -> tuple[np.ndarray, np.ndarray]:
        """Intervals after the strand shift: it moves both ends of a fragment, and a read as a whole."""
        plus, minus = map(np.int64, self.strand_shift)
        of_read = np.where(reads.strand < 0, minus, plus)
        start = reads.start + np.where(reads.is_fragment, plus, of_read)
        end = reads.end + np.where(reads.is_fragment, minus, of_read)
        return start, np.maximum(end, start + 1)  # a fragment shorter than its shifts keeps 1 bp
