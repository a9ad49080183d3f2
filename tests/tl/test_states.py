"""Chromatin states: those that are plain are found and named, whoever is asked, and results are as scanpy has them."""

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

import chipvi
from chipvi.tl import _rates, _states

ASSAYS = ["H3K4me3", "H3K36me3", "H3K27me3", "H3K9me3"]
KINDS = ["Active TSS", "Transcribed", "Repressed (Polycomb)", "Heterochromatin", "Quiescent"]
LEVELS = np.array([[40, 2, 1, 1], [1, 9, 1, 1], [1, 1, 12, 1], [1, 1, 1, 8], [1, 1, 1, 1]])


def make(n_regions=900, seed=0):
    """What impute would return of three biosamples, and the states under it."""
    rng = np.random.default_rng(seed)
    state_rb = np.repeat(rng.integers(len(KINDS), size=(n_regions // 30, 3)), 30, axis=0)
    rate_rba = LEVELS[state_rb] * np.exp(0.35 * rng.normal(size=(n_regions, 3, len(ASSAYS))))
    pairs = [(f"cell{b}", assay) for b in range(3) for assay in ASSAYS]
    var = pd.DataFrame(pairs, columns=["biosample", "assay"], index=[".".join(pair) for pair in pairs])
    rate_rt = rate_rba.reshape(n_regions, -1) * rng.uniform(0.3, 3, len(var))  # of tracks of unequal depth
    chrom = [f"chr{1 + r // 600}" for r in range(n_regions)]
    start = 200 * (np.arange(n_regions) % 600)
    obs = pd.DataFrame({"chrom": chrom, "start": start, "end": start + 200}, index=[f"r{r}" for r in range(n_regions)])
    return AnnData(obs=obs, var=var, layers={"denoised": rate_rt.astype(np.float32)}), state_rb


@pytest.fixture(scope="module")
def found():
    adata, state_rb = make()
    chipvi.tl.states(adata, n_states=5)
    return adata, state_rb


def codes(adata):
    return np.stack([adata.obsm["states"][name].cat.codes for name in adata.obsm["states"]], axis=1)


def test_plain_states_are_found_in_all_biosamples_and_named_by_their_marks(found):
    adata, state_rb = found
    assert adjusted_rand_score(state_rb.ravel(), codes(adata).ravel()) > 0.9
    table = adata.uns["states"]["table"]
    assert list(table["kind"]) == KINDS and list(table.index) == [f"{n} {kind}" for n, kind in enumerate(KINDS, 1)]
    names = table["kind"].to_numpy()[codes(adata)]
    assert (names == np.array(KINDS)[state_rb]).mean() > 0.95


def test_the_table_has_the_shares_and_the_means_of_the_rates(found):
    adata, _ = found
    table, code_rb = adata.uns["states"]["table"], codes(adata)
    enrichment_rba = (adata.layers["denoised"] / adata.layers["denoised"].mean(axis=0)).reshape(adata.n_obs, 3, -1)
    for k in range(5):
        np.testing.assert_allclose(table[ASSAYS].iloc[k], enrichment_rba[code_rb == k].mean(axis=0), rtol=1e-4)
        assert table["regions"].iloc[k] == (code_rb == k).sum()
    np.testing.assert_allclose(table["share"], table["regions"] / code_rb.size)
    assert adata.uns["states"]["transitions"].to_numpy().sum(axis=1) == pytest.approx(1)


def test_results_are_as_scanpy_has_them_and_can_be_written(found, tmp_path):
    adata = found[0].copy()
    assert list(adata.obsm["states"].columns) == ["cell0", "cell1", "cell2"]
    assert adata.uns["states_colors"] == list(adata.uns["states"]["table"]["color"])
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = anndata.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(read.obsm["states"], adata.obsm["states"])
    pd.testing.assert_frame_equal(read.uns["states"]["table"], adata.uns["states"]["table"], check_names=False)
    assert list(read.uns["states_colors"]) == adata.uns["states_colors"]


def test_memory_in_pieces_and_seeds_change_next_to_nothing(found, monkeypatch):
    again, _ = make()
    chipvi.tl.states(again, n_states=5)
    assert np.array_equal(codes(again), codes(found[0]))
    monkeypatch.setattr(_states, "_CHUNK", 150)
    chipvi.tl.states(again, n_states=5)
    assert (codes(again) == codes(found[0])).mean() > 0.999
    chipvi.tl.states(again, n_states=5, seed=7)
    assert adjusted_rand_score(codes(again).ravel(), codes(found[0]).ravel()) > 0.95


def test_states_learnt_from_a_part_are_those_of_all(found, monkeypatch):
    adata, state_rb = make(n_regions=3_000, seed=3)
    monkeypatch.setattr(_states, "_MOST_DRAWN", 4_000)
    chipvi.tl.states(adata, n_states=5)
    assert adjusted_rand_score(state_rb.ravel(), codes(adata).ravel()) > 0.8


def test_a_higher_resolution_gives_more_states_and_a_number_is_kept_to():
    adata, _ = make()
    numbers = []
    for options in ({"resolution": 0.1}, {"resolution": 2.0}, {"n_states": 3}, {"n_states": 8}):
        chipvi.tl.states(adata, **options)
        numbers.append(len(adata.uns["states"]["table"]))
    assert numbers[0] < numbers[1] and numbers[2:] == [3, 8]


def test_some_biosamples_may_be_asked_for_and_share_the_assays_that_all_of_them_have():
    adata, _ = make()
    some = adata[:, adata.var_names != "cell2.H3K9me3"].copy()
    chipvi.tl.states(some, n_states=3, biosamples=["cell2", "cell0"])
    assert list(some.obsm["states"]) == ["cell2", "cell0"]
    assert list(some.uns["states"]["table"].columns[4:]) == ASSAYS[:3]


def test_a_model_and_its_result_have_the_same_states(model):
    everything = pd.DataFrame(
        [(b, a) for b in model.biosamples for a in ASSAYS[:1] + ["H3K4me1", "H3K36me3", "H3K27me3"]],
        columns=["biosample", "assay"],
    )
    result = model.impute(tracks=everything)
    own = model.adata.copy()
    try:
        chipvi.tl.states(model, n_states=3)
        chipvi.tl.states(result, n_states=3)
        assert (codes(model.adata) == codes(result)).mean() > 0.99
    finally:  # the model is the session's
        del model.adata.obsm["states"], model.adata.uns["states"], model.adata.uns["states_colors"]
    assert own.uns.keys() == model.adata.uns.keys()


def test_a_model_of_signal_has_the_states_of_what_was_measured_and_of_what_is_imputed():
    adata, state_rb = make()
    signal_rt = np.arcsinh(adata.layers["denoised"] / 2)
    signal_rt[:, 5] = np.nan  # cell1.H3K36me3
    signals = AnnData(obs=adata.obs, var=adata.var, layers={"signal": signal_rt})
    chipvi.ChipVI.setup_anndata(signals, signal_layer="signal")
    model = chipvi.ChipVI(signals)
    model.train(max_steps=20, seed=0, enable_progress_bar=False, calibrate_unseen=False)
    rates = _rates.open_rates(model, ["cell1"])
    rows = np.array([2, 7, 8])
    read = rates.read(rows)[:, 0]
    np.testing.assert_allclose(read[:, [0, 2, 3]], adata.layers["denoised"][rows][:, [4, 6, 7]] / 2, rtol=1e-4)
    lacking = model.get_imputed_pvalues(indices=rows, tracks=["cell1.H3K36me3"], scale="-log10p", return_numpy=True)
    np.testing.assert_allclose(read[:, 1], lacking[:, 0], rtol=1e-4)
    chipvi.tl.states(model, n_states=5)
    assert adjusted_rand_score(state_rb[:, [0, 2]].ravel(), codes(signals)[:, [0, 2]].ravel()) > 0.7
    assert signals.obsm["states"].shape == (900, 3)
    result = model.impute()  # which has no more than what is imputed
    imputed = model.get_imputed_pvalues(indices=rows, tracks=["cell1.H3K36me3"], scale="-log10p", return_numpy=True)
    np.testing.assert_allclose(_rates.open_rates(result, ["cell1"]).read(rows)[:, 0, 1], imputed[:, 0], rtol=1e-4)
    chipvi.tl.states(result, n_states=3)
    assert result.obsm["states"].shape == (900, 3)


def test_regions_without_reads_have_a_state_and_no_warning():
    adata, _ = make()
    adata.layers["denoised"][300:800] = 0.01
    chipvi.tl.states(adata, n_states=4)  # a warning would fail
    empty = pd.unique(adata.obsm["states"].iloc[320:780].to_numpy().ravel())
    assert (adata.uns["states"]["table"].loc[empty, "kind"] == "Quiescent").all()


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (lambda a: a, {"biosamples": ["cell7"]}, "biosample 'cell7' is not in"),
        (lambda a: a, {"biosamples": []}, "biosamples names none"),
        (lambda a: AnnData(a.layers["denoised"], a.obs, a.var), {}, "the layer denoised"),
        (lambda a: a[:, [0, 5, 10]].copy(), {}, "must share an assay; they share none"),
        (lambda a: a[:12].copy(), {}, "at least 50 regions to be found in; there are 12"),
    ],
)
def test_what_has_no_states_is_refused_and_left_as_it_is(change, options, expected):
    adata = change(make()[0])
    with pytest.raises(ValueError, match=expected):
        chipvi.tl.states(adata, **options)
    assert not adata.obsm and not adata.uns


def test_without_igraph_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setattr(_states, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'chipvi\[states\]'"):
        chipvi.tl.states(make()[0])


def test_tss_states_lie_at_h3k4me3_of_real_counts(shared_data):
    pilot = anndata.read_h5ad(shared_data / "roadmap_pilot.h5ad")
    smooth = chipvi.metrics.gaussian_smoothing(pilot.X, np.array([0, 2_500, 5_000]), width=2)
    here = AnnData(obs=pilot.obs, var=pilot.var, layers={"denoised": smooth + 0.05})[:, ~pilot.var["is_control"]].copy()
    chipvi.tl.states(here, n_states=6)
    table = here.uns["states"]["table"]
    assert table["kind"].iloc[0] == "Active TSS"
    for biosample in ("GM12878", "K562"):
        is_tss = here.obsm["states"][biosample].cat.codes == 0
        counts = here[:, f"{biosample}.H3K4me3"].layers["denoised"][:, 0]
        assert counts[is_tss].mean() > 4 * counts[~is_tss].mean()
