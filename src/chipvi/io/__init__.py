"""Files in, files out: alignments and bigWig files to counts and signal per region, and back."""

from .bigwigs.browsers import write_igv_session, write_track_hub
from .bigwigs.read import bigwig_sizes, read_bigwigs
from .bigwigs.tracks import write_tracks
from .bigwigs.write import write_bigwigs
from .chromhmm import write_chromhmm
from .counting.count import count_reads
from .counting.covariates import region_covariates
from .genomes import chrom_sizes, make_bins, read_blacklist
from .matrix import from_matrix
from .sheets.assemble import count_sheet
from .sheets.sheet import read_sheet
from .states import write_states

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
    "region_covariates",
    "write_bigwigs",
    "write_chromhmm",
    "write_igv_session",
    "write_states",
    "write_track_hub",
    "write_tracks",
]
