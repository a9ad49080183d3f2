"""Covariates of regions, against counting the letters of each region one by one."""

import anndata
import numpy as np
import pandas as pd
import pybigtools
import pysam
import pytest

from chipvi.io import count_sheet, region_covariates
from chipvi.io.counting import covariates

LENGTHS = {"chr1": 997, "chr2": 410}


@pytest.fixture
def sequences():
    rng = np.random.default_rng(3)
    drawn = {chrom: "".join(rng.choice(list("ACGTacgtN"), n)) for chrom, n in LENGTHS.items()}
    # a region without a known base, one with an ambiguous code, one of a single base, pairs across a border
    drawn["chr1"] = drawn["chr1"][:200] + "N" * 100 + "R" * 50 + "CGCGC" + "GTTTT" + drawn["chr1"][360:]
    return drawn


@pytest.fixture
def fasta(tmp_path, sequences):
    path = tmp_path / "genome.fa"
    lines = (
        f">{chrom} a comment\n" + "\n".join(s[at : at + 60] for at in range(0, len(s), 60))
        for chrom, s in sequences.items()
    )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def regions():
    starts = {"chr2": range(0, 400, 50), "chr1": [*range(0, 950, 50), 355, 355, 10]}
    rows = [(chrom, start, start + (1 if start == 10 else 50)) for chrom, of in starts.items() for start in of]
    return pd.DataFrame(rows, columns=["chrom", "start", "end"], index=[f"r{at}" for at in range(len(rows))])


def expected_of(sequence):
    upper = sequence.upper()
    a, c, g, t = (upper.count(base) for base in "ACGT")
    known, pairs = a + c + g + t, sum(upper[at : at + 2] == "CG" for at in range(len(upper)))
    return (
        (c + g) / known if known else None,
        (pairs * known / (c * g) if c * g else 0.0) if known else None,
        (len(upper) - known) / len(upper),
    )


@pytest.mark.parametrize("most", [1, 120, 2**24])
def test_composition_is_that_of_the_letters(most, fasta, regions, sequences, monkeypatch):
    monkeypatch.setattr(covariates, "_MOST_BASES", most)
    found = region_covariates(regions, fasta=fasta, progress=False)
    assert list(found.columns) == ["gc", "cpg_ratio", "n_share"] and found.index.equals(regions.index)
    expected = [expected_of(sequences[chrom][start:end]) for chrom, start, end in regions.to_numpy()]
    known = [row for row in expected if row[0] is not None]
    assert 2 <= len(expected) - len(known) <= 3  # those of N and R alone
    means = [np.mean([row[column] for row in known]) for column in (0, 1)]
    filled = [row if row[0] is not None else (*means, 1.0) for row in expected]
    np.testing.assert_allclose(found.to_numpy(), filled, rtol=1e-12)


def test_compressed_sequences_and_other_names_of_chromosomes(fasta, regions):
    pysam.tabix_compress(str(fasta), f"{fasta}.gz")
    plain = region_covariates(regions, fasta=fasta, progress=False)
    pd.testing.assert_frame_equal(region_covariates(regions, fasta=f"{fasta}.gz", progress=False), plain)
    bare = regions.assign(chrom=regions["chrom"].str.removeprefix("chr"))
    pd.testing.assert_frame_equal(region_covariates(bare, fasta=fasta, progress=False), plain)


def test_mappability_is_the_mean_over_bases_and_0_where_the_file_has_none(tmp_path, regions):
    path = tmp_path / "umap.bw"
    pybigtools.open(str(path), "w").write(LENGTHS, [("chr1", 0, 75, 1.0), ("chr1", 75, 100, 0.5)])
    found = region_covariates(regions, mappability=path, progress=False)["mappability"]
    base_b = np.zeros(997)
    base_b[:75], base_b[75:100] = 1.0, 0.5
    on_1 = (regions["chrom"] == "chr1").to_numpy()
    expected = [
        base_b[start:end].mean() if one else 0.0 for (_, start, end), one in zip(regions.to_numpy(), on_1, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_wrong_files_are_refused_in_a_sentence(tmp_path, fasta, regions):
    with pytest.raises(ValueError, match="give fasta, mappability or both"):
        region_covariates(regions)
    with pytest.raises(FileNotFoundError, match="no file .*none.fa"):
        region_covariates(regions, fasta=tmp_path / "none.fa")
    beyond = pd.DataFrame({"chrom": ["chr2"], "start": [400], "end": [450]})
    with pytest.raises(ValueError, match=r"genome\.fa is of another assembly.*410 bp"):
        region_covariates(beyond, fasta=fasta)
    with pytest.raises(ValueError, match=r"genome\.fa has no chr9"):
        region_covariates(beyond.assign(chrom="chr9"), fasta=fasta)
    (tmp_path / "text.fa").write_text("no sequence\n")
    with pytest.raises(ValueError, match=r"text\.fa must be a FASTA file") as error:
        region_covariates(beyond, fasta=tmp_path / "text.fa")
    assert "\n" not in str(error.value)
    (tmp_path / "n.fa").write_text(">chr2\n" + "N" * 500 + "\n")
    with pytest.raises(ValueError, match="must hold A, C, G or T in some region; in all 1"):
        region_covariates(beyond, fasta=tmp_path / "n.fa")


def test_a_sheet_is_counted_with_covariates_of_the_regions_that_the_blacklist_leaves(tmp_path, fasta):
    (tmp_path / "a.bed").write_text("".join(f"chr1\t{at}\t{at + 9}\tr\t0\t+\n" for at in range(0, 900, 7)))
    sheet = pd.DataFrame({"biosample": ["K562"], "assay": ["ATAC"], "file": [str(tmp_path / "a.bed")]})
    out = tmp_path / "counts.h5ad"
    adata = count_sheet(
        sheet,
        genome=pd.Series(LENGTHS),
        bin_size=50,
        blacklist=pd.DataFrame({"chrom": ["chr1"], "start": [60], "end": [70]}),
        fasta=fasta,
        progress=False,
        out=out,
    )
    expected = region_covariates(adata.obs[["chrom", "start", "end"]], fasta=fasta, progress=False)
    pd.testing.assert_frame_equal(adata.obs[list(expected)], expected)
    assert 50 not in adata.obs.loc[adata.obs["chrom"] == "chr1", "start"].tolist()
    np.testing.assert_array_equal(anndata.read_h5ad(out).obs["gc"], adata.obs["gc"])
    before = set(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=r"none\.bw"):
        count_sheet(sheet, genome=pd.Series(LENGTHS), bin_size=50, mappability="none.bw", out=tmp_path / "b.h5ad")
    assert set(tmp_path.iterdir()) == before
