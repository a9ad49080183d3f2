"""What is no number, or no number in range, is refused before any file is opened."""

import numpy as np
import pandas as pd
import pytest

from chipvi import io

REGIONS = pd.DataFrame({"chrom": ["chr1"], "start": [0], "end": [500]})
READERS = {
    "count_reads": lambda **options: io.count_reads("nowhere.bam", REGIONS, progress=False, **options),
    "count_sheet": lambda **options: io.count_sheet("nowhere.csv", regions=REGIONS, progress=False, **options),
}
WRONG = [
    ({"rule": "middle"}, "rule must be one of five_prime, shifted, center, overlap; it is 'middle'"),
    ({"fragment_length": 150.7}, "fragment_length must be a whole number; it is 150.7"),
    ({"fragment_length": 150.0}, "fragment_length must be a whole number; it is 150.0"),
    ({"fragment_length": True}, "fragment_length must be a whole number; it is True"),
    ({"fragment_length": np.True_}, "fragment_length must be a whole number"),
    ({"fragment_length": "200"}, "fragment_length must be a whole number; it is '200'"),
    ({"fragment_length": None}, "fragment_length must be a whole number; it is None"),
    ({"fragment_length": np.nan}, "fragment_length must be a whole number; it is nan"),
    ({"fragment_length": -3}, "fragment_length must be at least 1 bp; it is -3"),
    ({"fragment_length": 10**30}, "fragment_length must be at most 1099511627776 bp"),
    ({"strand_shift": (4.5, -5)}, "strand_shift must be a whole number of bp; it is 4.5"),
    ({"strand_shift": (4, False)}, "strand_shift must be a whole number of bp; it is False"),
    ({"strand_shift": (4,)}, "strand_shift must be two numbers, for the plus and the minus strand"),
    ({"strand_shift": (4, -5, 1)}, "strand_shift must be two numbers"),
    ({"strand_shift": 4}, "strand_shift must be a list; it is 4"),
    ({"strand_shift": "45"}, "strand_shift must be two numbers"),
    ({"strand_shift": None}, "strand_shift must be a list; it is None"),
    ({"min_mapq": -1}, "min_mapq must be at least 0; it is -1"),
    ({"min_mapq": 300}, "min_mapq must be at most 255; it is 300"),
    ({"min_mapq": 29.9}, "min_mapq must be a whole number; it is 29.9"),
    ({"min_mapq": True}, "min_mapq must be a whole number; it is True"),
    ({"duplicates": "no"}, "duplicates must be True or False; it is 'no'"),
    ({"secondary": 1}, "secondary must be True or False; it is 1"),
    ({"supplementary": None}, "supplementary must be True or False; it is None"),
    ({"processes": 0}, "processes must be at least 1; it is 0"),
    ({"processes": 1.5}, "processes must be a whole number or None; it is 1.5"),
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("options", "message"), WRONG, ids=[f"{next(iter(option.items()))}" for option, _ in WRONG])
def test_a_wrong_argument_is_named_in_one_sentence_before_a_file_is_looked_for(reader, options, message):
    with pytest.raises(ValueError) as error:
        READERS[reader](**options)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_what_bases_without_a_value_are_is_checked_first_too():
    with pytest.raises(ValueError, match="uncovered must be 'missing' or 'zero'; got 'none'"):
        READERS["count_sheet"](uncovered="none")


def test_whole_numbers_of_numpy_and_sequences_of_two_are_taken(write_bam):
    path = write_bam("a.bam", [(0, "chr1", 100, "36M", 255, 0)], {"chr1": 900})
    options = {"fragment_length": np.int16(300), "min_mapq": np.uint8(255), "duplicates": np.False_}
    for shift in ([4, -5], (np.int8(4), np.int64(-5)), np.array([4, -5]), [np.uint64(4), np.int8(-5)]):
        adata = io.count_reads(path, REGIONS, strand_shift=shift, progress=False, **options)
        assert adata.to_df().to_numpy().tolist() == [[1]]
        assert adata.uns["chipvi_counting"]["strand_shift"].tolist() == [4, -5]
