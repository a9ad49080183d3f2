"""Files in, files out: alignments and bigWig files to counts and signal per region, and back."""

from ._genomes import chrom_sizes, make_bins, read_blacklist

__all__ = ["chrom_sizes", "make_bins", "read_blacklist"]
