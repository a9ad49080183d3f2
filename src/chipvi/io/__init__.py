"""Files in, files out: alignments and bigWig files to counts and signal per region, and back."""

from ._assemble import count_sheet
from ._browsers import write_igv_session, write_track_hub
from ._count import count_reads
from ._genomes import chrom_sizes, make_bins, read_blacklist
from ._matrix import from_matrix
from ._read_bigwigs import bigwig_sizes, read_bigwigs
from ._sheet import read_sheet
from ._write_bigwigs import write_bigwigs
from ._write_tracks import write_tracks

__all__ = [
    "bigwig_sizes",
    "chrom_sizes",
    "count_reads",
    "count_sheet",
    "from_matrix",
    "make_bins",
    "read_bigwigs",
    "read_blacklist",
    "read_sheet",
    "write_bigwigs",
    "write_igv_session",
    "write_track_hub",
    "write_tracks",
]
