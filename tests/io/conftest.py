"""Small alignment files that tests make themselves."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pysam
import pytest


@pytest.fixture
def write_bam(tmp_path: Path) -> Callable[..., Path]:
    """Write records as (flag, contig, start, CIGAR, mapping quality, template length) in the order given.

    The mate of a record with a template length lies at its other end, as long as the record itself.
    """

    def write(name: str, records: Sequence[tuple], lengths: dict[str, int], mode: str = "wb", **options) -> Path:
        path = tmp_path / name
        header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": chrom, "LN": length} for chrom, length in lengths.items()]}
        with pysam.AlignmentFile(str(path), mode, header=header, **options) as file:
            for number, (flag, chrom, start, cigar, mapq, template) in enumerate(records):
                read = pysam.AlignedSegment(file.header)
                read.query_name, read.flag, read.mapping_quality = f"read{number // 2}", flag, mapq
                if chrom is not None:
                    read.reference_name, read.reference_start, read.cigarstring = chrom, start, cigar
                if template:
                    length = read.reference_end - start
                    read.next_reference_name = chrom
                    read.next_reference_start = start + template + (-length if template > 0 else length)
                    read.template_length = template
                file.write(read)
        return path

    return write
