import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import anndata
import numpy as np
import pandas as pd
import pooch
import pytest

from chipvi.datasets import _roadmap, roadmap_tss

TRACKS = [f"{biosample}.{assay}" for biosample in ("K562", "H1") for assay in _roadmap._ASSAYS]
CELL1 = "ENSG01_AB_1,1,2,3,4,5\nENSG01_AB_2,6,7,8,9,10\nENSG02_C_D_200,0,0,1,0,0\n"
CELL2 = "ENSG01_AB_1,11,12,13,14,15\nENSG01_AB_2,0,0,0,0,2\nENSG02_C_D_200,300,0,0,0,0\n"


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, counts the requests, and can break off or refuse the first of them."""

    def do_GET(self):
        self.server.requests.append(self.path)
        if len(self.server.requests) <= self.server.n_cut:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"ENSG01_AB_1,1,2")
        elif len(self.server.requests) <= self.server.n_cut + self.server.n_refused:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Start a server of a folder on this machine; gives the server, which has `url` and `requests`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    servers = []

    def start(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        server.requests, server.n_cut, server.n_refused = [], 0, 0
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def tiny(tmp_path, serve, monkeypatch):
    """A server of three windows of a train split, and no other."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name, text in {"Cell1.train.csv": CELL1, "Cell2.train.csv": CELL2}.items():
        (folder / name).write_text(text)
        monkeypatch.setitem(_roadmap._SHA256, name, hashlib.sha256(text.encode()).hexdigest())
    server = serve(folder)
    server.folder = folder
    return server


def kept_files(cache_dir):
    return sorted(path.name for path in cache_dir.rglob("*") if path.is_file())


def test_windows_become_rows_and_biosample_assay_pairs_columns(tiny, tmp_path):
    adata = roadmap_tss(tmp_path / "cache", splits="train", base_url=tiny.url)
    expected = [[1, 2, 3, 4, 5, 11, 12, 13, 14, 15], [6, 7, 8, 9, 10, 0, 0, 0, 0, 2], [0, 0, 1, 0, 0, 300, 0, 0, 0, 0]]
    np.testing.assert_array_equal(adata.X, np.array(expected, dtype=np.float32), strict=True)
    assert adata.var_names.tolist() == TRACKS
    assert adata.obs_names.tolist() == ["ENSG01_AB_1", "ENSG01_AB_2", "ENSG02_C_D_200"]
    assert adata.obs["gene_id"].tolist() == ["ENSG01", "ENSG01", "ENSG02"]
    assert adata.obs["gene_name"].tolist() == ["AB", "AB", "C_D"]
    assert adata.obs["offset"].tolist() == [-10_000, -9_900, 9_900]
    assert adata.obs["split"].unique().tolist() == ["train"]


def test_counts_equal_the_published_table(serve, shared_data, tmp_path):
    adata = roadmap_tss(tmp_path, base_url=serve(shared_data / "raw").url)
    reference = anndata.read_h5ad(shared_data / "roadmap_tss.h5ad")
    np.testing.assert_array_equal(adata.X, reference.X, strict=True)
    pd.testing.assert_frame_equal(adata.obs, reference.obs, check_categorical=False)
    pd.testing.assert_frame_equal(adata.var, reference.var, check_categorical=False)
    assert {key: adata.uns[key] for key in ("assembly", "bin_size")} == {"assembly": "hg19", "bin_size": 100}


def test_splits_come_in_the_order_asked_for(serve, shared_data, tmp_path):
    adata = roadmap_tss(tmp_path, splits=("valid", "train"), base_url=serve(shared_data / "raw").url + "/")
    assert adata.obs["split"].tolist() == ["valid"] * 40_000 + ["train"] * 40_000


def test_each_file_is_downloaded_once_and_then_read_offline(tiny, tmp_path):
    first = roadmap_tss(tmp_path / "cache", splits=["train", "train"], base_url=tiny.url)
    tiny.shutdown()
    second = roadmap_tss(tmp_path / "cache", splits=["train"], base_url="http://127.0.0.1:9/nobody/listens")
    assert tiny.requests == ["/Cell1.train.csv", "/Cell2.train.csv"]
    np.testing.assert_array_equal(first.X, second.X)


def test_the_default_cache_is_the_users_cache_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "home" / project)
    roadmap_tss(splits=["train"], base_url=tiny.url)
    assert kept_files(tmp_path / "home" / "chipvi") == ["Cell1.train.csv", "Cell2.train.csv"]


def test_an_altered_file_is_refused_and_not_kept(tiny, tmp_path):
    (tiny.folder / "Cell1.train.csv").write_text(CELL1.replace("10", "11"))
    with pytest.raises(ValueError, match=r"Cell1\.train\.csv must have the sha256 \w{64}.*was not kept\. Try again"):
        roadmap_tss(tmp_path / "cache", splits=["train"], base_url=tiny.url)
    assert kept_files(tmp_path / "cache") == []


def test_a_file_damaged_in_the_cache_is_downloaded_again(tiny, tmp_path):
    roadmap_tss(tmp_path / "cache", splits=["train"], base_url=tiny.url)
    (damaged,) = (tmp_path / "cache").rglob("Cell2.train.csv")
    damaged.write_text("")
    assert roadmap_tss(tmp_path / "cache", splits=["train"], base_url=tiny.url).shape == (3, 10)
    assert tiny.requests[2:] == ["/Cell2.train.csv"]


def test_half_a_download_is_not_kept(tiny, tmp_path):
    tiny.n_cut = 100
    with pytest.raises(ConnectionError, match=r"Cell1\.train\.csv could not be downloaded: .*put the file into"):
        roadmap_tss(tmp_path / "cache", splits=["train"], base_url=tiny.url)
    assert kept_files(tmp_path / "cache") == []


@pytest.mark.parametrize("trouble", ["n_cut", "n_refused"])
def test_a_passing_trouble_is_tried_again_without_a_word(tiny, tmp_path, trouble, caplog):
    setattr(tiny, trouble, 1)
    assert roadmap_tss(tmp_path / "cache", splits=["train"], base_url=tiny.url).shape == (3, 10)
    assert tiny.requests == ["/Cell1.train.csv", "/Cell1.train.csv", "/Cell2.train.csv"]
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"Downloading {tiny.url}/{cell}.train.csv" for cell in ("Cell1", "Cell2")]


def test_a_file_that_the_server_lacks_is_told(tiny, tmp_path):
    with pytest.raises(ConnectionError, match=r"Cell1\.test\.csv could not be downloaded: 404"):
        roadmap_tss(tmp_path / "cache", splits=["test"], base_url=tiny.url)


def test_no_network_is_told(serve, tmp_path):
    server = serve(tmp_path)
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match="Check the network and try again, put the file into") as raised:
        roadmap_tss(tmp_path / "cache", base_url=server.url)
    assert "could not be downloaded: Failed to establish a new connection" in str(raised.value)


def test_a_file_put_into_the_cache_by_hand_is_taken(tiny, tmp_path):
    (tmp_path / "cache" / "roadmap_tss").mkdir(parents=True)
    for name in ("Cell1.train.csv", "Cell2.train.csv"):
        (tmp_path / "cache" / "roadmap_tss" / name).write_bytes((tiny.folder / name).read_bytes())
    roadmap_tss(tmp_path / "cache", splits=["train"], base_url=tiny.url)
    assert tiny.requests == []


def test_the_address_names_the_pinned_commit():
    assert _roadmap._BASE_URL == (
        "https://raw.githubusercontent.com/QData/DeepDiffChrome/2aef9c5520595b14da265578c2c04c3d65a4ad01/data/"
    )


def test_an_unknown_split_is_refused_before_any_download(tiny, tmp_path):
    with pytest.raises(ValueError, match="split 'validation' is not in .*did you mean 'valid'"):
        roadmap_tss(tmp_path / "cache", splits=["train", "validation"], base_url=tiny.url)
    with pytest.raises(ValueError, match="splits must name at least one"):
        roadmap_tss(tmp_path / "cache", splits=[], base_url=tiny.url)
    assert tiny.requests == []
