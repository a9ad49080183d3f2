"""Signal of bigWig files: exact means, by path and by URL, and what is refused."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pybigtools
import pytest

from chipvi.io import read_bigwigs
from chipvi.io.bigwigs import read

SIZES = {"chr1": 70_003, "chr2": 9_001, "chr10": 5_000}
quiet = partial(read_bigwigs, progress=False)


def write(path: Path, records: list[tuple[str, int, int, float]], sizes: dict[str, int] = SIZES) -> Path:
    pybigtools.open(str(path), "w").write(sizes, records)
    return path


def random_records(seed: int, chroms: tuple[str, ...] = ("chr1", "chr2"), low: float = 0) -> list:
    """Steps of 1 to 60 bp, of which one in four is left out."""
    rng = np.random.default_rng(seed)
    records = []
    for chrom in chroms:
        edges = np.cumsum(rng.integers(1, 60, size=SIZES[chrom] // 40)).tolist()
        values = (rng.gamma(0.5, 4, size=len(edges)) + low).astype(np.float32).tolist()
        steps = zip(edges[:-1], edges[1:], values[:-1], strict=True)
        records += [(chrom, *step) for step in steps if rng.random() < 0.75 and step[1] <= SIZES[chrom]]
    return records


def bases(records: list) -> dict[str, np.ndarray]:
    """Value of every base, NaN where there is none."""
    values = {chrom: np.full(size, np.nan) for chrom, size in SIZES.items()}
    for chrom, start, end, value in records:
        values[chrom][start:end] = value
    return values


def bins(width: int, chroms: tuple[str, ...] = ("chr1", "chr2", "chr10")) -> pd.DataFrame:
    places = [(chrom, s, s + width) for chrom in chroms for s in range(0, SIZES[chrom] - width + 1, width)]
    return pd.DataFrame(places, columns=["chrom", "start", "end"])


def mean_by_base(records: list, regions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean over covered bases, and over all with 0 for the others."""
    values = bases(records)
    pieces = [values[c][s:e] for c, s, e in regions[["chrom", "start", "end"]].itertuples(index=False)]
    covered = [np.nan if np.isnan(piece).all() else np.nanmean(piece) for piece in pieces]
    return np.array(covered), np.array([np.nansum(piece) / len(piece) for piece in pieces])


@pytest.mark.parametrize("width", [7, 37, 200])
@pytest.mark.parametrize("pieces", [(2**16, 2**22), (7, 60)])
def test_stored_nan_is_a_base_without_a_value(tmp_path, width, pieces, monkeypatch):
    monkeypatch.setattr(read, "_BINS", pieces[0])
    monkeypatch.setattr(read, "_BASES", pieces[1])
    records = random_records(1)
    rng = np.random.default_rng(9)
    stored = [(*record[:3], np.nan if rng.random() < 0.3 else record[3]) for record in records]
    path = write(tmp_path / "a.bw", stored)
    regions = bins(width)
    covered, zeros = mean_by_base(stored, regions)
    assert not np.array_equal(covered, mean_by_base(records, regions)[0], equal_nan=True)
    for order in (regions, regions.iloc[::-19]):
        found = quiet(path, order).X[:, 0], quiet(path, order, uncovered="zero").X[:, 0]
        np.testing.assert_allclose(found[0], covered[order.index], rtol=1e-6)
        np.testing.assert_allclose(found[1], zeros[order.index], rtol=1e-6)


def test_a_file_of_nothing_but_nan_covers_nothing(tmp_path):
    path = write(tmp_path / "a.bw", [("chr1", 0, 500, np.nan)])
    assert np.isnan(quiet(path, bins(100)).X).all()
    assert (quiet(path, bins(100), uncovered="zero", arcsinh=True).X == 0).all()


def test_a_chromosome_too_long_to_be_read_is_refused_and_others_are_read(tmp_path):
    sizes = {"chr1": 3_000_000_000, "chr2": 2**31 - 1}
    path = write(tmp_path / "a.bw", [("chr1", 0, 200, 1.0), ("chr2", 2**31 - 101, 2**31 - 1, 4.0)], sizes)
    with pytest.raises(
        ValueError, match=r"a\.bw can be read of chromosomes up to 2,147,483,647 bp; its chr1 has 3,000"
    ):
        quiet(path, pd.DataFrame({"chrom": ["chr2", "chr1"], "start": [0, 0], "end": [200, 200]}))
    last = pd.DataFrame({"chrom": ["chr2"], "start": [2**31 - 201], "end": [2**31 - 1]})
    assert quiet(path, last).X.tolist() == [[4]] and quiet(path, last, uncovered="zero").X.tolist() == [[2]]


@pytest.mark.parametrize("dtype", ["uint32", "int32", "uint64"])
def test_positions_may_be_of_any_whole_type_but_not_cut_silently(tmp_path, dtype):
    path = write(tmp_path / "a.bw", random_records(1))
    expected = quiet(path, bins(37)).X
    np.testing.assert_array_equal(quiet(path, bins(37).astype({"start": dtype, "end": dtype})).X, expected)
    with pytest.raises(ValueError, match="column 'start' of regions must hold whole base pairs; its dtype is float64"):
        quiet(path, bins(37).assign(start=lambda table: table["start"] + 0.5))


@pytest.mark.parametrize("width", [1, 25, 37, 200])
def test_means_are_those_of_the_bases(tmp_path, width):
    records = random_records(1)
    path = write(tmp_path / "K562.H3K4me3.bigWig", records)
    regions = bins(width)
    covered, zeros = mean_by_base(records, regions)
    assert np.isnan(covered).any() and not np.isnan(covered).all()
    found = quiet(path, regions)
    assert found.X.dtype == np.float32 and found.shape == (len(regions), 1)
    np.testing.assert_allclose(found.X[:, 0], covered, rtol=1e-6)
    np.testing.assert_allclose(quiet(path, regions, uncovered="zero").X[:, 0], zeros, rtol=1e-6)


def test_regions_of_any_width_and_order_keep_their_means_names_and_columns(tmp_path):
    rng = np.random.default_rng(2)
    records = random_records(3)
    path = write(tmp_path / "a.bw", records)
    start = rng.integers(0, 8_000, size=53)
    regions = pd.DataFrame({"chrom": rng.choice(["chr1", "chr2"], size=53), "start": start})
    regions["end"] = start + rng.integers(1, 1_001, size=53)
    regions["gene"] = [f"g{i}" for i in range(53)]
    found = quiet(path, regions.set_index("gene", drop=False))
    np.testing.assert_allclose(found.X[:, 0], mean_by_base(records, regions)[0], rtol=1e-6)
    assert list(found.obs_names) == list(found.obs["gene"]) == list(regions["gene"])
    assert quiet(path, regions).obs_names[7] == "{chrom}:{start}-{end}".format(**regions.iloc[7])


def test_the_summaries_for_browsers_are_not_used(tmp_path):
    """A spike of one base in 60,000 is lost in no mean, however wide the region."""
    path = write(tmp_path / "a.bw", [("chr1", 0, 7, 1.0), ("chr1", 29_999, 30_000, 5.0), ("chr1", 59_000, 60_000, 2.0)])
    regions = pd.DataFrame({"chrom": "chr1", "start": [0, 29_000], "end": [60_000, 30_001]})
    assert quiet(path, regions).X[:, 0] == pytest.approx([(7 + 5 + 2000) / 1008, 5.0])


def test_files_are_named_by_their_stems_or_as_asked_and_may_have_any_ending(tmp_path):
    records = {"K562.CTCF": random_records(4), "H1.CTCF": random_records(5), "x": random_records(6)}
    paths = [write(tmp_path / f"{name}.bw", steps) for name, steps in records.items()]
    paths[1] = paths[1].rename(tmp_path / "H1.CTCF.signal")
    regions = bins(200)
    expected = np.column_stack([mean_by_base(steps, regions)[0] for steps in records.values()])
    by_stem = quiet(paths, regions)
    by_mapping = quiet(dict(zip("abc", map(str, paths), strict=True)), regions)
    by_names = quiet(paths, regions, names=["p", "q", "r"])
    assert [list(a.var_names) for a in (by_stem, by_mapping, by_names)] == [list(records), list("abc"), list("pqr")]
    for adata in (by_stem, by_mapping, by_names):
        np.testing.assert_allclose(adata.X, expected, rtol=1e-6)
        assert list(adata.var["file"]) == [str(path) for path in paths]


def test_other_processes_read_the_same(tmp_path):
    paths = [write(tmp_path / f"{seed}.bw", random_records(seed)) for seed in (7, 8, 9)]
    regions = bins(200)
    np.testing.assert_array_equal(quiet(paths, regions, processes=2).X, quiet(paths, regions, processes=1).X)


SCRIPT = """
import sys
import pandas as pd
from chipvi.io import read_bigwigs
from chipvi.io.bigwigs import read
print("here", flush=True)
regions = pd.DataFrame({"chrom": "chr2", "start": [100, 4_000], "end": [900, 4_100]})
print(read_bigwigs(sys.argv[1:], regions, processes=2, progress=False).shape)
"""


def test_a_script_without_a_main_guard_can_read_several_files(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = [write(tmp_path / f"{seed}.bw", random_records(seed)) for seed in (11, 12, 13)]
    run = subprocess.run([sys.executable, script, *paths], capture_output=True, text=True)
    assert run.stdout == "here\n(2, 3)\n", run.stderr


def test_arcsinh_is_taken_of_the_mean(tmp_path):
    records = random_records(10)
    regions = bins(100)
    found = quiet(write(tmp_path / "a.bw", records), regions, arcsinh=True)
    np.testing.assert_allclose(found.X[:, 0], np.arcsinh(mean_by_base(records, regions)[0]), rtol=1e-6)


# Sends parts of files, and leads from /moved/ to them, as file servers do; logs how many bytes each answer has. It is
# another process, for pybigtools lets no thread run while it waits.
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        path = Path(self.path.lstrip("/"))
        if self.path.startswith("/moved/"):
            return self.answer(302, b"", Location=self.path.removeprefix("/moved"))
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        asked = self.headers.get("Range")
        if asked is None:
            return self.answer(200, content)
        begin, _, end = asked.removeprefix("bytes=").partition("-")
        first, last = int(begin), min(int(end or len(content)), len(content) - 1)
        self.answer(206, content[first : last + 1], **{"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    do_HEAD = do_GET

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Accept-Ranges": "bytes"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            with open("sent.txt", "a") as file:
                print(len(body), file=file)

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def site(tmp_path) -> Iterator[str]:
    """Address of a server of `tmp_path`."""
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


@pytest.mark.parametrize(("scheme", "folder"), [("http", ""), ("HTTP", ""), ("http", "/moved")])
def test_a_url_reads_as_the_file(tmp_path, site, scheme, folder):
    path = write(tmp_path / "K562.DNase.bigWig", random_records(11))
    regions = bins(200)
    found = quiet(f"{scheme}{site.removeprefix('http')}{folder}/K562.DNase.bigWig", regions)
    np.testing.assert_array_equal(found.X, quiet(path, regions).X)
    assert list(found.var_names) == ["K562.DNase"]


def test_of_a_url_only_parts_are_fetched(tmp_path, site):
    rng = np.random.default_rng(12)
    values = rng.random(200_000).tolist()
    path = write(tmp_path / "a.bw", [("1", 9 * i, 9 * i + 9, v) for i, v in enumerate(values)], {"1": 2_000_000})
    regions = pd.DataFrame({"chrom": ["1"], "start": [900_000], "end": [900_090]})
    assert quiet(f"{site}/a.bw", regions).X[0, 0] == pytest.approx(np.mean(values[100_000:100_010]))
    sent = [int(line) for line in (tmp_path / "sent.txt").read_text().split()]
    assert 0 < sum(sent) < path.stat().st_size / 4


def test_a_url_that_leads_nowhere_is_told(site):
    with pytest.raises(ValueError, match=r"/no\.bw must be a bigWig file; it cannot be read.*Check the address"):
        quiet(f"{site}/no.bw", bins(200))


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*no\.bw"):
        quiet(tmp_path / "no.bw", bins(200))


@pytest.mark.parametrize("content", [b"", b"chr1\t0\t10\t1.5\n" * 30, b"\x26\xfc\x8f\x88" + bytes(20)])
def test_what_is_no_bigwig_is_told(tmp_path, content):
    (tmp_path / "a.bw").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.bw must be a bigWig file; it cannot be read, or is cut off\. Fetch"):
        quiet(tmp_path / "a.bw", bins(200))


def test_a_bigbed_file_is_told(tmp_path):
    path = tmp_path / "a.bb"
    pybigtools.open(str(path), "w").write(SIZES, [("chr1", 5, 90, "peak")])
    with pytest.raises(ValueError, match="it is a bigBed file, which holds intervals and no signal"):
        quiet(path, bins(200))


def test_a_file_that_is_cut_off_is_refused_or_read_right(tmp_path):
    """What may be missing at the end are summaries for browsers, which are not used."""
    records = random_records(13)
    content = write(tmp_path / "a.bw", records).read_bytes()
    expected = mean_by_base(records, bins(200))[0]
    refused = 0
    for share in np.linspace(0.01, 0.99, 25):
        (tmp_path / "b.bw").write_bytes(content[: int(share * len(content))])
        try:
            found = quiet(tmp_path / "b.bw", bins(200)).X[:, 0]
        except ValueError as error:
            assert "cannot be read, or is cut off" in str(error)
            refused += 1
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert refused > 12


def test_a_damaged_block_is_told(tmp_path, capfd):
    path = write(tmp_path / "a.bw", random_records(14))
    content = bytearray(path.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.bw must be a bigWig file; a part of it is damaged"):
        quiet(path, bins(200))
    capfd.readouterr()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("is_with", [True, False], ids=["chr1 in the regions", "chr1 in the file"])
def test_chromosomes_are_found_with_and_without_chr_and_the_log_says_so(tmp_path, is_with, processes, caplog):
    ensembl = {"chr1": "1", "chr2": "2", "chrM": "MT"}
    sizes = dict(zip(ensembl, SIZES.values(), strict=True))
    records = random_records(19) + [("chrM", 10, 320, 2.5)]
    renamed = [(ensembl[chrom], *rest) for chrom, *rest in records]
    paths = [write(tmp_path / "a.bw", records, sizes)]
    paths.append(write(tmp_path / "b.bw", renamed, {ensembl[chrom]: size for chrom, size in sizes.items()}))
    regions = pd.DataFrame({"chrom": ["chr2", "chrM", "chr1", "chr1"], "start": [0, 0, 100, 300]})
    regions["end"] = regions["start"] + 200
    if not is_with:
        regions["chrom"] = regions["chrom"].map(ensembl)
    found = quiet(paths, regions, processes=processes).X
    assert np.isfinite(found).all() and len(np.unique(found[:, 0])) == 4
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    (record,) = caplog.records
    told = "b.bw calls chromosomes otherwise than the regions, such as" if is_with else "a.bw calls chromosomes"
    assert told in record.message and "(and 2 more)" in record.message


def test_of_two_contigs_the_one_of_the_same_name_is_read(tmp_path):
    path = write(tmp_path / "a.bw", [("1", 0, 100, 7.0), ("chr1", 0, 100, 3.0)], {"1": 50_000, "chr1": 500})
    for chrom, value in (("1", 7), ("chr1", 3)):
        assert quiet(path, pd.DataFrame({"chrom": [chrom], "start": [0], "end": [100]})).X[0, 0] == value


def test_a_file_without_any_of_the_chromosomes_is_told(tmp_path):
    path = write(tmp_path / "a.bw", [("II", 0, 10, 1.0)], {"II": 500})
    with pytest.raises(ValueError, match="the regions have chr1, chr2, chr10, the file has II"):
        quiet(path, bins(500))


def test_a_region_beyond_the_chromosome_is_told(tmp_path):
    path = write(tmp_path / "a.bw", random_records(15))
    regions = pd.DataFrame({"chrom": ["chr1", "chr2", "chr2"], "start": [0, 8_900, 9_100], "end": [100, 9_100, 9_300]})
    with pytest.raises(ValueError, match=r"chr2:8900-9100 \(and 1 more\) does not, for chr2 has 9,001 bp.*assembly"):
        quiet(path, regions)


def test_negative_signal_is_no_minus_log10_p(tmp_path):
    path = write(tmp_path / "a.bw", [("chr1", 0, 300, 1.5), ("chr1", 300, 500, -0.25)])
    regions = bins(100, ("chr1",)).iloc[:6]
    with pytest.raises(ValueError, match=r"-log10 p.*region chr1:300-400 is -0\.25 \(and 1 more\)"):
        quiet(path, regions, arcsinh=True)
    assert quiet(path, regions).X[4, 0] == np.float32(-0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uncovered": "nan"}, "uncovered must be 'missing' or 'zero'; got 'nan'"),
        ({"names": ["a"]}, "there are 1 names and 2 files"),
        ({"names": ["a", "a"]}, "track names must differ; 'a' comes back. Give others"),
        ({"regions": bins(200).drop(columns="end")}, "end not found"),
        ({"regions": bins(200).iloc[:0]}, "regions must hold at least one"),
        ({"regions": bins(200).assign(end=5)}, r"end after they start; row 1 is chr1:200-5 \(and"),
        ({"files": []}, "at least one bigWig file"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, options, message):
    paths = [write(tmp_path / f"{seed}.bw", random_records(seed)) for seed in (16, 17)]
    with pytest.raises(ValueError, match=message):
        quiet(**({"files": paths, "regions": bins(200)} | options))


def test_names_are_not_given_twice(tmp_path):
    with pytest.raises(ValueError, match="names must not be given where files is a mapping"):
        quiet({"a": write(tmp_path / "a.bw", random_records(18))}, bins(200), names=["b"])
