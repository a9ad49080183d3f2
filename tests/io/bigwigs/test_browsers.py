"""Files for genome browsers: they parse, name files that exist, and show each assay in its colour."""

import re
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from chipvi import io
from chipvi.io.bigwigs.colors import assay_color, blend
from chipvi.io.genomes import genome_names
from chipvi.predict import stream

PAIRS = [("K562", "H3K27ac"), ("K562", "DNase"), ('fetal "brain" & <cord>\nblood', "H3K4me3"), ("H1", "MAFK")]
NAMES = [".".join(pair) for pair in PAIRS]
COUNT_KINDS = ["imputed", "lower", "upper", "denoised"]


def result(n_regions: int = 37, counts: bool = True, pval: bool = True) -> AnnData:
    """As `model.impute()` returns it."""
    rng = np.random.default_rng(3)
    start = 200 * np.arange(n_regions)
    obs = pd.DataFrame({"chrom": "chr3", "start": start, "end": start + 200}, index=[f"r{s}" for s in start])
    var = pd.DataFrame(PAIRS, columns=["biosample", "assay"], index=NAMES)
    values = {name: rng.gamma(0.7, 3, size=(n_regions, 4)).astype(np.float32) for name in (*COUNT_KINDS, "dispersion")}
    values["pval"] = np.arcsinh(values["imputed"])
    values["pval_std"] = values["pval"] / 9
    if not counts:
        return AnnData(values["pval"], obs=obs, var=var, layers={name: values[name] for name in ("pval", "pval_std")})
    layers = {name: x for name, x in values.items() if name != "imputed" and (pval or "pval" not in name)}
    return AnnData(values["imputed"], obs=obs, var=var, layers=layers)


def written(adata: AnnData | Path, folder: Path, **options) -> pd.DataFrame:
    return io.write_tracks(adata, folder, progress=False, **options)


def stanzas(path: Path) -> list[dict[str, str]]:
    """Blocks of `key value` lines, apart by blank lines."""
    blocks = re.split(r"\n\s*\n", path.read_text().strip())
    return [dict(line.strip().split(" ", 1) for line in block.splitlines()) for block in blocks]


def test_everything_of_a_result_is_written_on_its_scale(tmp_path):
    adata = result()
    files = written(adata, tmp_path)
    assert sorted(map(tuple, files[["track", "kind"]].to_numpy())) == sorted(
        (name, kind) for name in NAMES for kind in [*COUNT_KINDS, "pval"]
    )
    expected = {"imputed": adata.X, "pval": np.sinh(adata.layers["pval"])}
    for kind, rows in files.groupby("kind"):
        found = io.read_bigwigs(rows.set_index("track")["file"].to_dict(), adata.obs, progress=False)
        np.testing.assert_allclose(found[:, NAMES].X, expected.get(kind, adata.layers.get(kind)), rtol=5.1e-4)
    assert list(files.loc[files["track"] == NAMES[1], ["biosample", "assay"]].iloc[0]) == ["K562", "DNase"]
    assert len(list(tmp_path.iterdir())) == len(files)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"pval": False}, COUNT_KINDS),
        ({"counts": False}, ["pval"]),
    ],
)
def test_a_result_of_counts_or_of_signal_alone_is_written(tmp_path, options, kinds):
    assert list(written(result(**options), tmp_path)["kind"].unique()) == kinds


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_a_result_that_was_streamed_to_a_file_is_written_alike(tmp_path, ending):
    adata = result()
    parts = [
        {"X": adata.X[rows]} | {k: v[rows] for k, v in adata.layers.items()} for rows in np.split(np.r_[:37], [20])
    ]
    path, frame = tmp_path / f"result.{ending}", AnnData(obs=adata.obs, var=adata.var)
    if ending == "h5ad":
        stream.write_h5ad(path, frame, parts)
    else:
        stream.new_store(path, frame, list(parts[0]), np.float32, chunk_rows=20)
        for start, part in zip((20, 0), parts[::-1], strict=True):
            stream.write_rows(path, start, part)
    expected = written(adata, tmp_path / "memory")
    found = written(path, tmp_path / "file")
    pd.testing.assert_frame_equal(found.drop(columns="file"), expected.drop(columns="file"))
    for one, other in zip(found["file"], expected["file"], strict=True):
        assert one.name == other.name and one.read_bytes() == other.read_bytes()


def test_chosen_tracks_are_written(tmp_path):
    assert set(written(result(), tmp_path, tracks=NAMES[1:3])["track"]) == set(NAMES[1:3])


def test_a_genome_of_a_known_name_gets_a_hub_and_a_session(tmp_path):
    written(result(), tmp_path / "my tracks", genome="hg38")
    assert stanzas(tmp_path / "my tracks" / "hub.txt")[0]["shortLabel"] == "my tracks"
    assert ElementTree.parse(tmp_path / "my tracks" / "igv_session.xml").getroot().get("genome") == "hg38"
    written(result(), tmp_path / "other", genome=pd.Series({"chr3": 100_000}))
    assert {path.suffix for path in (tmp_path / "other").iterdir()} == {".bw"}


@pytest.mark.parametrize("in_file", [False, True])
def test_without_a_genome_the_assembly_that_the_result_names_gets_a_hub(tmp_path, in_file):
    named = result()
    named.uns["chipvi"] = {"assembly": "hg19"}
    if in_file:
        named.write_h5ad(tmp_path / "result.h5ad")
    written(tmp_path / "result.h5ad" if in_file else named, tmp_path / "bw")
    assert stanzas(tmp_path / "bw" / "genomes.txt")[0]["genome"] == "hg19"
    written(named, tmp_path / "other", genome="hg38")
    assert stanzas(tmp_path / "other" / "genomes.txt")[0]["genome"] == "hg38"


@pytest.fixture
def files(tmp_path) -> pd.DataFrame:
    return written(result(), tmp_path / "bw")


def test_the_hub_leads_to_every_file_once(files, tmp_path):
    hub_file = io.write_track_hub(files, tmp_path / "hub", "hg19", name="Lab & co", email="a@b.org")
    (hub,) = stanzas(hub_file)
    assert (hub["hub"], hub["longLabel"], hub["email"]) == ("Lab_co", "Lab & co", "a@b.org")
    (genome,) = stanzas(hub_file.parent / hub["genomesFile"])
    assert genome["genome"] == "hg19"
    found = stanzas(hub_file.parent / genome["trackDb"])
    addresses = [stanza["bigDataUrl"] for stanza in found if "bigDataUrl" in stanza]
    assert all(re.fullmatch(r"[A-Za-z0-9._~%/+-]+", address) and not address.startswith("/") for address in addresses)
    paths = sorted((hub_file.parent / unquote(address)).resolve() for address in addresses)
    assert paths == sorted(path.resolve() for path in files["file"])


def test_hub_tracks_follow_the_rules_of_the_browser(files, tmp_path):
    found = stanzas(io.write_track_hub(files, tmp_path, "hg19").parent / "trackDb.txt")
    names = [stanza["track"] for stanza in found]
    assert len(set(names)) == len(names)
    for place, stanza in enumerate(found):
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", stanza["track"])
        assert 0 < len(stanza["shortLabel"]) <= 17 and 0 < len(stanza["longLabel"]) <= 76
        assert ("superTrack" in stanza) == ("parent" not in stanza)
        assert "superTrack" in stanza or stanza["type"] == "bigWig"
        assert stanza.get("parent") in [None, *names[:place]]
    biosamples = [stanza["longLabel"] for stanza in found if "superTrack" in stanza]
    assert biosamples == ["K562", 'fetal "brain" & <cord> blood', "H1"]


@pytest.fixture
def with_measured(tmp_path) -> pd.DataFrame:
    """Files of a result, and of what was measured: in more regions, and not of the last track."""
    return written(result(), tmp_path / "my hub", genome="hg38", measured=measured(), signal_layer="chip")


def measured() -> AnnData:
    rng = np.random.default_rng(5)
    start = np.r_[200 * np.arange(39), 0, 200]
    chrom = ["chr3"] * 39 + ["chr4"] * 2
    obs = pd.DataFrame({"chrom": chrom, "start": start, "end": start + 200}, index=[f"m{i}" for i in range(41)])
    counts = rng.poisson(2, size=(len(obs), 3)).astype(np.float32)
    layers = {"chip": np.arcsinh(counts), "observed": np.ones_like(counts)}
    layers["observed"][4, 0] = 0
    layers["chip"][:, 1] = np.nan
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=NAMES[:3]), layers=layers)


def test_measured_tracks_are_written_where_they_were_measured(with_measured):
    given = measured()
    kinds = with_measured.groupby("kind")["track"].apply(list)
    assert kinds["observed"] == NAMES[:3] and kinds["observed_pval"] == [NAMES[0], NAMES[2]]
    files = with_measured.set_index(["kind", "track"])["file"]
    found = io.read_bigwigs({"x": files["observed", NAMES[0]]}, given.obs, progress=False).X[:, 0]
    is_in = np.arange(41) < 37
    expected = np.where(given.layers["observed"][:, 0] == 1, given.X[:, 0], np.nan)
    np.testing.assert_allclose(found[is_in], expected[is_in], rtol=5.1e-4)
    assert np.isnan(found[~is_in]).all()
    p = io.read_bigwigs({"x": files["observed_pval", NAMES[2]]}, given.obs, progress=False).X[:, 0]
    np.testing.assert_allclose(p[is_in], np.sinh(given.layers["chip"])[is_in, 2], rtol=5.1e-4)


def test_hub_and_session_carry_the_measured_tracks_above_the_imputed_ones(with_measured, tmp_path):
    found = stanzas(tmp_path / "my hub" / "trackDb.txt")
    shown = [stanza["longLabel"] for stanza in found if NAMES[0] in stanza["longLabel"]]
    assert shown[:2] == [f"{NAMES[0]}: measured counts", f"{NAMES[0]}: imputed counts, with interval"]
    assert shown.index(f"{NAMES[0]}: measured -log10 p") < shown.index(f"{NAMES[0]}: imputed -log10 p")
    session = ElementTree.parse(tmp_path / "my hub" / "igv_session.xml").getroot()
    panel = [track.get("name") for track in session.find("Panel")]
    assert panel[:2] == [f"{NAMES[0]}: measured counts", f"{NAMES[0]}, with interval"]


def test_regions_that_were_not_measured_are_refused(tmp_path):
    other = measured()
    other.obs["chrom"] = "chr4"
    with pytest.raises(ValueError, match="region chr3:0-200 of the result is not in measured. Pass the data that were"):
        written(result(), tmp_path / "out", measured=other)


def test_lower_ends_of_zero_everywhere_are_logged(tmp_path, caplog):
    adata = result()
    written(adata, tmp_path)
    assert caplog.messages == []
    adata.layers["lower"][:, :2] = 0
    written(adata, tmp_path)
    assert caplog.messages == ["The lower end of the interval is 0 everywhere for 2 tracks: K562.H3K27ac, K562.DNase."]


def test_without_a_lower_end_the_upper_one_alone_lies_behind(files, tmp_path):
    found = stanzas(io.write_track_hub(files[files["kind"] != "lower"], tmp_path, "hg19").parent / "trackDb.txt")
    inside = [stanza["longLabel"] for stanza in found if stanza.get("parent") == "K562_DNase"]
    assert inside == ["K562.DNase: upper end of the interval", "K562.DNase: imputed counts"]


# What UCSC documents of the settings that a hub of bigWig files has (trackDb documentation, and the browser's help on
# hubs), and hubCheck refuses: a setting that the type has not, a value out of range, a label or file that is not there,
# a folder or overlay without tracks or with data of its own.
RULES = {
    "track": r"[A-Za-z][A-Za-z0-9_]*",
    "shortLabel": r"\S.{0,16}",
    "longLabel": r"\S.{0,79}",
    "type": "bigWig",
    "bigDataUrl": r"[^\s?#]+\.bw",
    "parent": r"[A-Za-z][A-Za-z0-9_]*( (on|off))?",
    "superTrack": "on( show)?",
    "container": "multiWig",
    "aggregate": "none|stacked|solidOverlay|transparentOverlay",
    "showSubtrackColorOnUi": "on|off",
    "visibility": "hide|dense|squish|pack|full",
    "autoScale": "on|off",  # "group" is for composite tracks
    "alwaysZero": "on|off",
    "maxHeightPixels": r"\d+:\d+:\d+",
    "color": r"\d{1,3},\d{1,3},\d{1,3}",
    "priority": r"\d+(\.\d+)?",
    "html": r"\S+\.html",
}


def faults_of_hub(hub_file: Path) -> list[str]:
    """What hubCheck would find wrong."""
    (hub,) = stanzas(hub_file)
    found = [
        f"hub.txt lacks {name}"
        for name in ("hub", "shortLabel", "longLabel", "genomesFile", "email", "descriptionUrl")
        if not hub.get(name)
    ]
    found += [] if re.fullmatch(r"[^\s/]+", hub["hub"]) else [f"hub {hub['hub']}"]
    found += [
        f"hub.txt: {key}" for key in ("shortLabel", "longLabel") if not re.fullmatch(RULES[key], hub.get(key, ""))
    ]
    found += [] if re.fullmatch(r"[^@\s]+@[^@\s]+", hub.get("email", "")) else ["hub.txt: email"]
    found += [] if (hub_file.parent / hub.get("descriptionUrl", "-")).is_file() else ["missing hub description"]
    for genome in stanzas(hub_file.parent / hub["genomesFile"]):
        track_db = hub_file.parent / genome["trackDb"]
        if not track_db.is_file() or genome["genome"] not in genome_names():
            return [*found, f"genomes.txt: {genome}"]
        sizes, seen, labels = io.chrom_sizes(genome["genome"]), {}, set()
        for stanza in stanzas(track_db):
            name = stanza["track"]
            found += [
                f"{name}: {key} {value}"
                for key, value in stanza.items()
                if not re.fullmatch(RULES.get(key, "-"), value)
            ]
            found += [f"{name} lacks {key}" for key in ("shortLabel", "longLabel") if key not in stanza]
            if "superTrack" not in stanza and "type" not in stanza:
                found.append(f"{name} has no type")
            parent = stanza.get("parent", "").partition(" ")[0]
            page = stanza.setdefault("page", stanza.get("html") or seen.get(parent, {}).get("page", "-"))
            found += [] if (track_db.parent / page).is_file() else [f"{name}: missing description page"]
            if parent and not {"superTrack", "container"} & set(seen.get(parent, {})):
                found.append(f"{name}: parent {parent} can have none, or comes later")
            if "color" in stanza and max(map(int, stanza["color"].split(","))) > 255:
                found.append(f"{name}: color {stanza['color']}")
            holds_tracks = {"superTrack", "container"} & set(stanza)
            if ("bigDataUrl" in stanza) == bool(holds_tracks):
                found.append(f"{name} must hold either data or tracks")
            if "bigDataUrl" in stanza:
                found += faults_of_file(track_db.parent / unquote(stanza["bigDataUrl"]), sizes)
            n_inside = sum(other.get("parent", "").partition(" ")[0] == name for other in stanzas(track_db))
            if holds_tracks and n_inside < (2 if "container" in stanza else 1):
                found.append(f"{name} holds {n_inside} tracks")
            label = stanza.get("shortLabel")
            found += [f"{name} comes twice"] * (name in seen) + [f"{label} comes twice"] * (label in labels)
            seen[name] = stanza
            labels.add(label)
    return found


def faults_of_file(file: Path, sizes: pd.Series) -> list[str]:
    """Chromosomes of a bigWig file that the genome has not, or in another length; the file, if it has no header."""
    try:
        within = io.bigwig_sizes(file)
    except (OSError, ValueError) as error:
        return [f"{file}: {error}"]
    return [f"{file}: {chrom}" for chrom, size in within.items() if sizes.get(chrom) != size]


def test_hub_check_finds_no_fault(with_measured, tmp_path):
    assert faults_of_hub(tmp_path / "my hub" / "hub.txt") == []


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        pytest.param("hub.txt", "^email .*", "email nobody", id="address"),
        pytest.param("hub.txt", "^shortLabel .*\n", "", id="label of the hub"),
        pytest.param("hub.txt", "^longLabel .*", "longLabel " + 81 * "x", id="long label of the hub"),
        pytest.param("hub.txt", "^descriptionUrl .*\n", "", id="description of the hub"),
        pytest.param("hub.txt", "description.html", "lost.html", id="file of the description"),
        pytest.param("genomes.txt", "hg38", "hg83", id="genome"),
        pytest.param("genomes.txt", "trackDb.txt", "lost.txt", id="trackDb"),
        pytest.param("trackDb.txt", "html description", "html lost", id="page of a track"),
        pytest.param("trackDb.txt", "visibility full", "visibility wide", id="value"),
        pytest.param("trackDb.txt", "priority", "order", id="setting"),
        pytest.param("trackDb.txt", "autoScale on", "autoScale group", id="setting of another type"),
        pytest.param("trackDb.txt", "imputed.bw", "lost.bw", id="file"),
        pytest.param("trackDb.txt", "^type bigWig\n", "", id="type"),
        pytest.param("trackDb.txt", "^shortLabel .*\n", "", id="no label"),
        pytest.param("trackDb.txt", "^shortLabel .*", "shortLabel the same", id="one label for all"),
        pytest.param("trackDb.txt", "^shortLabel .*", "shortLabel " + 18 * "x", id="label of 18 letters"),
        pytest.param("trackDb.txt", "^longLabel .*", "longLabel " + 81 * "x", id="long label of 81 letters"),
        pytest.param("trackDb.txt", "^parent \\S+_DNase$", "parent lost", id="overlay without tracks"),
        pytest.param("trackDb.txt", "^container .*", "bigDataUrl K562.DNase.imputed.bw", id="overlay that is none"),
        pytest.param("trackDb.txt", "^superTrack .*\n", "", id="folder that is none"),
        pytest.param("trackDb.txt", "^track (.*)_imputed$", r"track \1_upper", id="name twice"),
        pytest.param("trackDb.txt", "^track K562", "track 562", id="name that begins with a digit"),
        pytest.param("trackDb.txt", "^color .*", "color 300,0,0", id="colour"),
    ],
)
def test_a_hub_that_breaks_a_rule_of_hub_check_is_found_out(with_measured, tmp_path, name, good, bad):
    file = tmp_path / "my hub" / name
    text, n = re.subn(good, bad, file.read_text(), flags=re.M)
    assert n
    file.write_text(text)
    assert faults_of_hub(tmp_path / "my hub" / "hub.txt")


@pytest.mark.parametrize("content", [b"", b"no bigWig", b"\x26\xfc\x8f\x88"], ids=["empty", "text", "cut off"])
def test_a_bigwig_file_without_a_header_is_found_out(with_measured, tmp_path, content):
    with_measured["file"].iloc[3].write_bytes(content)
    assert faults_of_hub(tmp_path / "my hub" / "hub.txt")


def test_short_labels_differ_whatever_the_names(tmp_path):
    adata = result()
    adata.var["biosample"], adata.var["assay"] = [f"neuron_of_the_cortex_{i}" for i in range(4)], "H3K27ac"
    written(adata, tmp_path, genome="hg38")
    labels = [stanza["shortLabel"] for stanza in stanzas(tmp_path / "trackDb.txt")]
    assert len(set(labels)) == len(labels) == 4 * (1 + 1 + 3 + 2) and max(map(len, labels)) <= 17


def test_address_and_place_are_those_asked_for(tmp_path):
    written(result(), tmp_path, genome="hg38", email="a@b.org", locus="chr3:1-4,000")
    assert stanzas(tmp_path / "hub.txt")[0]["email"] == "a@b.org"
    assert ElementTree.parse(tmp_path / "igv_session.xml").getroot().get("locus") == "chr3:1-4,000"


def test_the_interval_lies_behind_the_imputed_counts(files, tmp_path):
    found = stanzas(io.write_track_hub(files, tmp_path, "hg19").parent / "trackDb.txt")
    containers = [stanza for stanza in found if "container" in stanza]
    assert len(containers) == len(NAMES)
    for container, name in zip(containers, NAMES, strict=True):
        inside = [stanza for stanza in found if stanza.get("parent") == container["track"]]
        of_track = files[files["track"] == name].set_index("kind")["file"]
        assert [Path(unquote(stanza["bigDataUrl"])).name for stanza in inside] == [
            of_track[kind].name for kind in ("upper", "imputed", "lower")
        ]
        upper, imputed, lower = (sum(map(int, stanza["color"].split(","))) for stanza in inside)
        assert upper > imputed > lower
        assert container["color"] == inside[1]["color"] == ",".join(map(str, assay_color(name.rpartition(".")[2])))


def test_labels_that_look_like_settings_stay_labels(files, tmp_path):
    """A line end in a name would begin a new setting, or a new track."""
    files["biosample"] = "x\n\ntrack evil\nbigDataUrl http://evil"
    files["track"] = files["track"] + "\rtrack evil"
    found = stanzas(io.write_track_hub(files, tmp_path, "hg19", name="a\nemail b").parent / "trackDb.txt")
    assert "evil" not in [stanza["track"] for stanza in found]
    assert len([stanza for stanza in found if "bigDataUrl" in stanza]) == len(files)
    assert len(stanzas(tmp_path / "hub.txt")[0]) == 6


def test_the_session_opens_every_file_and_paints_it(files, tmp_path):
    path = io.write_igv_session(files, tmp_path / "sessions" / "a.xml", "hg38", locus="chr3:1-4,000")
    session = ElementTree.parse(path).getroot()
    assert (session.tag, session.get("genome"), session.get("locus")) == ("Session", "hg38", "chr3:1-4,000")
    resources = [resource.get("path") for resource in session.iter("Resource")]
    opened = [(path.parent / resource).resolve() for resource in resources]
    assert sorted(opened) == sorted(file.resolve() for file in files["file"])
    shown = {track.get("id"): track for track in session.iter("Track") if track.get("clazz") is None}
    assert set(shown) == set(resources)
    merged = [track for track in session.iter("Track") if track.get("clazz") is not None]
    assert [[Path(child.get("id")).suffixes[-2] for child in track] for track in merged] == [
        [".upper", ".imputed", ".lower"]
    ] * 4
    by_file = dict(zip(opened, resources, strict=True))
    for row in files.itertuples():
        track = shown[by_file[row.file.resolve()]]
        assert " ".join(row.track.split()) in track.get("name")
        if row.kind in ("imputed", "denoised", "pval"):
            assert track.get("color") == ",".join(map(str, assay_color(row.assay)))


def test_marks_have_colours_of_their_own_and_relatives_share_one():
    marks = [
        "H3K4me3",
        "H3K4me1",
        "H3K27ac",
        "H3K36me3",
        "H3K27me3",
        "H3K9me3",
        "H3K9ac",
        "DNase",
        "CTCF",
        "unheard-of",
    ]
    assert len({assay_color(mark) for mark in marks}) == len(marks)
    assert assay_color("DNase-seq") == assay_color("dnase")
    assert assay_color("POLR2A") == assay_color("Pol2")
    assert blend((10, 20, 30), (110, 120, 130), 0) == (10, 20, 30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.drop(columns="assay"), "it has no assay"),
        (lambda files: files.iloc[:0], "must name at least one"),
        (lambda files: files.assign(file="nowhere.bw"), "there is no nowhere.bw. Write the bigWig files first"),
        (lambda files: files.assign(file="a.bedgraph"), "must be given bigWig files.*got 'a.bedgraph'"),
    ],
)
def test_tables_of_no_use_are_refused(files, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        io.write_track_hub(change(files), tmp_path / "out", "hg38")
    with pytest.raises(ValueError, match=message):
        io.write_igv_session(change(files), tmp_path / "out.xml", "hg38")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.xml").exists()


def test_a_session_ends_in_xml(files, tmp_path):
    with pytest.raises(ValueError, match=r"ending in \.xml; got 'a\.json'"):
        io.write_igv_session(files, tmp_path / "a.json", "hg38")
