"""The genome browser in the page: the numbers it shows, and the page as Chromium shows it, wide and narrow."""

import base64
import gzip
import hashlib
import html
import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import chipvi
from chipvi.io import chrom_sizes
from chipvi.report import browser, contents
from chipvi.report.browser import bed_graph, link_to_ucsc

ODD = "<b>&odd"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_igv = pytest.mark.skipif(browser.find_library() is None, reason="no igv-notebook")
PLACE = ["chrom", "start", "end"]


def setup_of(page) -> dict:
    text = re.search(r'<script type="application/json" id="browser-setup">(.*?)</script>', page.read_text("utf-8"))[1]
    return json.loads(text)


def unpacked(address: str) -> str:
    kind, _, data = address.partition(";base64,")
    raw = base64.b64decode(data, validate=True)
    return (gzip.decompress(raw) if kind.endswith("gzip") else raw).decode()


def values_at(address: str, obs: pd.DataFrame) -> np.ndarray:
    """The value of every region by a bedGraph; NaN where it has none."""
    lines = pd.read_csv(io.StringIO(unpacked(address)), sep="\t", names=[*PLACE, "value"])
    found = np.full(len(obs), np.nan)
    for row in lines.itertuples():
        found[(obs["chrom"] == row.chrom) & (obs["start"] >= row.start) & (obs["end"] <= row.end)] = row.value
    return found


@needs_igv
def test_the_rows_hold_what_was_measured_imputed_and_denoised_to_three_digits(page, model):
    rows = {row["name"]: row for row in setup_of(page)["tracks"]}
    label, name = "cell1 H3K4me1", "cell1.H3K4me1"
    obs, result = model.adata.obs, model.impute(tracks=[name])
    parts = {part["name"]: part for part in rows[f"{label} imputed"]["tracks"]}
    assert list(parts) == ["upper", "imputed", "lower"]  # from back to front
    shown = {"X": parts["imputed"], "lower": parts["lower"], "upper": parts["upper"]}
    shown |= {"denoised": rows[f"{label} denoised"]}
    is_there = ~np.isnan(values_at(shown["X"]["url"], obs))
    assert 400 < is_there.sum() <= 660  # the loci and what is around them
    for layer, row in shown.items():
        expected = (result.X if layer == "X" else result.layers[layer])[:, 0]
        np.testing.assert_allclose(values_at(row["url"], obs)[is_there], expected[is_there], rtol=0.006)
    measured = values_at(rows[f"{label} measured"]["url"], obs)
    np.testing.assert_allclose(measured[is_there], model.adata.to_df()[name][is_there], rtol=0.006)
    assert "cell2 H3K4me3 imputed" in rows and "cell2 H3K4me3 measured" not in rows  # which nobody measured


@needs_igv
def test_the_genome_is_given_by_the_lengths_of_its_chromosomes_and_nothing_is_asked_for_elsewhere(page):
    setup = setup_of(page)
    sizes = dict(line.split("\t") for line in unpacked(setup["reference"]["chromSizesURL"]).splitlines())
    assert sizes and {name: int(size) for name, size in sizes.items()} == chrom_sizes("hg38")[list(sizes)].to_dict()
    assert setup["loadDefaultGenomes"] is False
    assert "http" not in json.dumps(setup)


@needs_igv
def test_the_policy_of_the_page_names_its_scripts_and_no_other(page):
    source = page.read_text("utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', source)[1]
    scripts = re.findall(r"<script>(.*?)</script>", source, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2
    assert re.findall(r"'sha256-([^']*)'", html.unescape(policy)) == hashes
    assert "default-src 'none'" in policy and "connect-src" not in policy and "script-src 'unsafe" not in policy


def test_neighbours_of_one_value_are_one_line_but_not_over_gaps_or_chromosomes():
    place = pd.DataFrame({"chrom": list("aaaab"), "start": [0, 5, 10, 20, 25], "end": [5, 10, 15, 25, 30]})
    text = bed_graph(place, np.array([2.0, 2.0004, np.nan, 2.0, 2.0]))
    assert text == "a\t0\t10\t2\na\t20\t25\t2\nb\t25\t30\t2\n"
    assert bed_graph(place, np.full(5, np.nan)) == ""


def test_loci_link_to_ucsc_where_the_assembly_is_known():
    place = pd.DataFrame({"chrom": ["chr2", "chr2"], "start": [1000, 1200], "end": [1200, 1400]})
    assert link_to_ucsc("mm10", place) == (
        "https://genome.ucsc.edu/cgi-bin/hgTracks?db=mm10&position=chr2%3A1001-1400"  # counted from 1
    )
    assert link_to_ucsc(None, place) is None
    assert link_to_ucsc("mm10", place[["chrom"]]) is None


def test_every_locus_links_to_ucsc(page):
    assert page.read_text("utf-8").count('href="https://genome.ucsc.edu/cgi-bin/hgTracks?db=hg38&amp;position=chr') == 2


def test_without_igv_the_page_has_no_script_and_the_reader_is_told(model, tmp_path, monkeypatch):
    for module in (browser, contents):
        monkeypatch.setattr(module, "find_library", lambda: None)
    lines = []
    page = contents.make_page(model, None, None, None, None, progress=lines.append).text
    assert "<script" not in page
    assert lines[-1].endswith("which `pip install 'chipvi[browser]'` brings.")


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome on PATH")
    playwright = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


# Rows of the browser that were drawn, and those of them without a pixel.
ROWS = """(() => {
  const all = document.getElementById("browser").shadowRoot.querySelectorAll(".igv-viewport canvas");
  const drawn = [...all].filter(canvas => canvas.width > 0 && canvas.height > 0);
  const pixels = canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const isBlank = canvas => !pixels(canvas).some(value => value > 0);
  return [drawn.length, drawn.filter(isBlank).length];
})()"""


@needs_igv
@pytest.mark.parametrize("width", [1440, 390])
def test_chromium_shows_the_page_whole_and_asks_for_nothing(chromium, page, width):
    tab = chromium.new_page(viewport={"width": width, "height": 900}, device_scale_factor=2)
    asked, wrong = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.goto(page.as_uri())
    tab.wait_for_selector("#browser[data-opened]", state="attached", timeout=60_000)
    n_rows = len(setup_of(page)["tracks"])
    tab.wait_for_function(f"{ROWS}[0] >= {n_rows} && {ROWS}[1] === 0", timeout=20_000)
    sections = tab.eval_on_selector_all("section", "all => all.map(one => one.id)")
    assert sections == ["data", "training", "quality", "loci", "warnings"]
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    pictures = tab.eval_on_selector_all("img", "all => all.map(one => [one.naturalWidth, one.clientWidth])")
    assert len(pictures) == 5
    assert all(natural >= 2 * shown > 300 for natural, shown in pictures)  # sharp with two pixels to one
    assert all(shown <= min(width, 1056) for _, shown in pictures)  # whole, without scrolling
    rows = tab.evaluate("[...document.querySelectorAll('tr, li, figcaption, p')].map(one => one.textContent.trim())")
    assert rows and all(rows)
    labels = tab.eval_on_selector_all("#browser .igv-track-label", "all => all.map(one => one.textContent)")
    assert len(labels) == n_rows and f"cell1 {ODD} imputed" in labels
    (first, second) = tab.query_selector_all("button[data-locus]")
    second.click()
    tab.wait_for_function(
        "locus => document.getElementById('browser').shadowRoot.querySelector('.igv-search-input').value"
        ".replaceAll(',', '') === locus",
        arg=second.get_attribute("data-locus"),
    )
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [page.as_uri()]
    assert wrong == []
    tab.close()


def test_data_without_places_on_a_genome_have_no_browser(kit, tmp_path):
    adata = kit.data(signal=False)
    adata.obs = pd.DataFrame({"gene": adata.obs["chrom"].to_numpy()}, index=adata.obs_names)
    keys = {name: value for name, value in kit.keys.items() if name != "signal_layer"} | {"segment_key": "gene"}
    model = kit.train(kit.model(adata, keys), max_steps=1, calibrate_unseen=False)
    assert 'id="browser"' not in chipvi.report(model, tmp_path / "a.html").read_text("utf-8")
