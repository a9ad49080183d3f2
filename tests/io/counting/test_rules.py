"""Where a read counts, against the rules in plain Python, read by read."""

import numpy as np
import pytest

from chipvi.io.counting.rules import RULES, CountingRule, Reads

N_READS = 900


def place(rule, fragment_length, shift, start, end, strand, is_fragment):
    """The rules as the documentation of `count_reads` tells them."""
    if is_fragment:
        start, end = start + shift[0], end + shift[1]  # its two ends are 5' ends, on the plus and on the minus strand
    else:
        start, end = start + shift[strand < 0], end + shift[strand < 0]
    end = max(end, start + 1)
    five_prime = end - 1 if strand < 0 else start
    if rule == "overlap":
        return start, end
    if rule == "five_prime":
        return five_prime, five_prime + 1
    if rule == "center" or is_fragment:
        return (start + end) // 2, (start + end) // 2 + 1
    towards = -1 if strand < 0 else 1
    return five_prime + towards * (fragment_length // 2), five_prime + towards * (fragment_length // 2) + 1


def draw(seed):
    """Reads and fragments of 1 bp and more, also near the start of a chromosome."""
    random = np.random.default_rng(seed)
    start = random.integers(0, 4_000, N_READS)
    end = start + random.choice([1, 2, 3, 36, 37, 250, 251], N_READS)
    strand = random.choice([-1, 0, 1], N_READS).astype(np.int8)
    return Reads(("chr1",), np.zeros(N_READS, np.int64), start, end, strand, random.random(N_READS) < 0.5)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("fragment_length", [1, 2, 149, 150, 257])
@pytest.mark.parametrize("shift", [(0, 0), (4, -5), (-3, 8)])
def test_every_read_counts_where_its_rule_says(name, fragment_length, shift):
    reads = draw(10 * fragment_length + shift[0])
    found = np.stack(CountingRule(name, fragment_length, shift).place(reads), axis=1)
    columns = (reads.start, reads.end, reads.strand, reads.is_fragment)
    expected = [place(name, fragment_length, shift, *map(int, read)) for read in zip(*columns, strict=True)]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
