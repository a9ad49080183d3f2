"""Wrong command lines: each ends with a line that names the fault, leaves nothing behind, and shows no traceback."""

import shlex
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from chipvi import datasets
from chipvi.cli.app import app

INPUT, WORLD = 2, 1  # exit status: what was asked for is wrong, or the outside world is


def call(line: str) -> Result:
    return CliRunner().invoke(app, shlex.split(line))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A trained model with its data, and things that are no such."""
    path = tmp_path_factory.mktemp("here")
    sizes = {"n_regions": 210, "n_biosamples": 2, "n_assays": 3, "n_chromosomes": 4}
    datasets.simulate(**sizes, controls=True, signal=True, seed=1).write_h5ad(path / "data.h5ad")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        result = call("train data.h5ad -o model --steps 1")
    assert result.exit_code == 0, result.output
    for name in ("folder", "folder.h5ad", "empty_model", "truncated", "foreign", "cut", "no_tables"):
        (path / name).mkdir()
    model = {file: (path / "model" / file).read_bytes() for file in ("model.json", "model.safetensors")}
    (path / "truncated" / "model.json").write_bytes(model["model.json"][:5_000])
    (path / "truncated" / "model.safetensors").write_bytes(model["model.safetensors"])
    torch.save({"weights": 1}, path / "foreign" / "model.pt")
    for name, text in {"cut": "steps = ", "no_tables": "steps = 1\n"}.items():
        for file, content in model.items():
            (path / name / file).write_bytes(content)
        (path / name / "settings.toml").write_text(text)
    files = {
        "taken": "x",
        "file.zarr": "x",
        "empty.h5ad": "",
        "text.h5ad": "x",
        "good.bed": "chr1\t0\t800\n",
        "bad.bed": "chr1\tx\t800\n",
        "empty.bed": "",
        "backwards.bed": "chr1\t900\t800\n",
        "reads.bed": "chr1\t10\t46\t.\t0\t+\n",
        "sheet.csv": "biosample,assay,file\nK562,CTCF,reads.bed\n",
        "other.csv": "bio,assay,file\nK562,CTCF,reads.bed\n",
        "lost.csv": "biosample,assay,file\nK562,CTCF,lost.bam\n",
        "chrom.sizes": "chr1\t1000\n",
        "bad.sizes": "chr1\tlong\n",
        "unknown.toml": "stepz = 3\n",
        "list.toml": "head = ['poisson']\n",
        "zero.toml": "steps = 0\n",
        "nan.toml": "validation-size = nan\n",
    }
    for name, text in files.items():
        (path / name).write_text(text)
    return path


COUNT = "count sheet.csv -o new.h5ad --regions good.bed"
TRAIN = "train data.h5ad -o new"
IMPUTE = "impute model -o new.h5ad"
SCORE = "score data.h5ad data.h5ad"
LINES = [
    # of no command
    ("frobnicate", INPUT, "No such command"),
    ("--nonsense", INPUT, "No such option"),
    # count
    ("count", INPUT, "Missing argument"),
    ("count sheet.csv", INPUT, "--out"),
    ("count none.csv -o new.h5ad --regions good.bed", INPUT, "there is no sample sheet none.csv"),
    ("count folder -o new.h5ad --regions good.bed", INPUT, "there is no sample sheet folder"),
    ("count '' -o new.h5ad --regions good.bed", INPUT, "must not be empty"),
    ("count other.csv -o new.h5ad --regions good.bed", INPUT, "column 'biosample' is not in other.csv"),
    ("count lost.csv -o new.h5ad --regions good.bed", INPUT, "line 2 names lost.bam"),
    ("count data.h5ad -o new.h5ad --regions good.bed", INPUT, "it is no text"),
    ("count sheet.csv -o new.txt --regions good.bed", INPUT, "must end in .h5ad or .zarr"),
    ("count sheet.csv -o data.h5ad --regions good.bed", WORLD, "exists already"),
    ("count sheet.csv -o taken/new.h5ad --regions good.bed", WORLD, "taken is no folder"),
    ("count sheet.csv -o new.h5ad", INPUT, "regions, or a genome and a bin size"),
    ("count sheet.csv -o new.h5ad --genome hg99 --bin 100", INPUT, "'hg99' is neither"),
    ("count sheet.csv -o new.h5ad --genome bad.sizes --bin 100", INPUT, "line 1 of bad.sizes"),
    ("count sheet.csv -o new.h5ad --genome chrom.sizes --bin 0", INPUT, "--bin"),
    ("count sheet.csv -o new.h5ad --genome chrom.sizes --bin wide", INPUT, "--bin"),
    (f"count sheet.csv -o new.h5ad --genome chrom.sizes --bin 1{'0' * 25}", INPUT, "--bin': it must be a whole number"),
    ("count sheet.csv -o new.h5ad --genome chrom.sizes --bin 100 --chromosomes 'chr['", INPUT, "'chr[' is neither"),
    ("count sheet.csv -o new.h5ad --regions bad.bed", INPUT, "line 1 of bad.bed"),
    ("count sheet.csv -o new.h5ad --regions empty.bed", INPUT, "it holds none"),
    ("count sheet.csv -o new.h5ad --regions backwards.bed", INPUT, "end after they start"),
    ("count sheet.csv -o new.h5ad --regions folder", INPUT, "Is a directory"),
    (f"{COUNT} --blacklist good.bed", INPUT, "the blacklist must leave a region"),
    (f"{COUNT} --rule nonsense --dry-run", INPUT, "rule must be one of"),
    (f"{COUNT} --min-mapq -1", INPUT, "--min-mapq"),
    (f"{COUNT} --strand-shift 4", INPUT, "requires 2 arguments"),
    (f"{COUNT} --strand-shift 1{'0' * 25} 0", INPUT, "at most 18 digits"),
    (f"{COUNT} --workers 0", INPUT, "--workers"),
    (f"{COUNT} --shard 3/2", INPUT, "--shard must be a part and the number of parts"),
    (f"{COUNT} --shard half", INPUT, "it is 'half'"),
    (f"{COUNT} --workers 2 --scheduler tcp://x:1", INPUT, "leave one of them out"),
    # train
    ("train -o new", INPUT, "name the data to train on"),
    ("train data.h5ad", INPUT, "--out"),
    ("train data.h5ad more -o new", INPUT, "unexpected extra argument"),
    ("train none.h5ad -o new", INPUT, "there is no none.h5ad"),
    ("train folder.h5ad -o new", INPUT, "folder.h5ad cannot be read as an AnnData"),
    ("train file.zarr -o new", INPUT, "file.zarr cannot be read as an AnnData"),
    ("train empty.h5ad -o new", INPUT, "empty.h5ad cannot be read as an AnnData"),
    ("train data.h5ad -o ''", INPUT, "must not be empty"),
    ("train data.h5ad -o ..", INPUT, "--out must name a folder to make"),
    ("train data.h5ad -o taken", WORLD, "is no model of chipvi"),
    ("train data.h5ad -o taken/new", WORLD, "taken is a file, where a folder is wanted"),
    ("train data.h5ad -o model", WORLD, "--overwrite"),
    (f"{TRAIN} --steps 0", INPUT, "--steps"),
    (f"{TRAIN} --steps '[/x]'", INPUT, "--steps"),
    (f"{TRAIN} --seed -1", INPUT, "--seed"),
    (f"{TRAIN} --seed 1{'0' * 25}", INPUT, "--seed': it must be a whole number of at most 18 digits"),
    (f"{TRAIN} --head nonsense", INPUT, "head 'nonsense' is not in"),
    (f"{TRAIN} --validation-size nan", INPUT, "--validation-size': it must be a finite number"),
    (f"{TRAIN} --validation-size 1 --dry-run", INPUT, "validation_size must be at least 0 and below 1"),
    (f"{TRAIN} --accelerator nonsense", INPUT, "accelerator 'nonsense' is not in"),
    (f"{TRAIN} --accelerator tpu", INPUT, "accelerator 'tpu' is not there"),
    (f"{TRAIN} --layer ''", INPUT, "must not be empty"),
    (f"{TRAIN} --layer nonsense", INPUT, "layer 'nonsense' is not in adata.layers"),
    (f"{TRAIN} --observed-layer signal", INPUT, "must be different layers"),
    (f"{TRAIN} --biosample-key none", INPUT, "biosample_key 'none' is not in adata.var"),
    (f"{TRAIN} --assay-key biosample", INPUT, "must meet in one track only"),
    (f"{TRAIN} --depth-key assay", INPUT, "must hold reads per track"),
    (f"{TRAIN} --control-key depth", INPUT, "must be True or False"),
    (f"{TRAIN} --segment-key start", INPUT, "must hold each segment in one block of rows"),
    (f"{TRAIN} --config none.toml", INPUT, "there is no none.toml"),
    (f"{TRAIN} --config unknown.toml", INPUT, "did you mean 'steps'"),
    (f"{TRAIN} --config list.toml", INPUT, "setting 'head' of list.toml must be text, got ['poisson']"),
    (f"{TRAIN} --config zero.toml", INPUT, "setting 'steps' of zero.toml must be at least 1, got 0"),
    (f"{TRAIN} --config nan.toml", INPUT, "setting 'validation-size' of nan.toml must be a finite number"),
    (f"{TRAIN} --resume", INPUT, "there is no unfinished training"),
    # impute
    ("impute", INPUT, "Missing argument"),
    ("impute model", INPUT, "name what to write"),
    ("impute none -o new.h5ad", INPUT, "there is no folder none"),
    ("impute empty_model -o new.h5ad", INPUT, "holds no model"),
    ("impute truncated -o new.h5ad", INPUT, "cannot be read as a model of chipvi"),
    ("impute foreign -o new.h5ad", INPUT, "model.pt is a pickle, which can run code when it is opened"),
    ("impute cut -o new.h5ad", INPUT, "cannot be read as TOML"),
    ("impute no_tables -o new.h5ad", INPUT, "has no table [made]"),
    ("impute model -o data.h5ad", WORLD, "exists already"),
    ("impute model -o taken/new.h5ad --dry-run", WORLD, "taken is a file, where a folder is wanted"),
    ("impute model --bigwig taken", WORLD, "taken is a file, where a folder is wanted"),
    ("impute model --bigwig ''", INPUT, "must not be empty"),
    ("impute model --bigwig new --genome hg99", INPUT, "'hg99' is neither"),
    (f"{IMPUTE} --genome hg38", INPUT, "--genome is for bigWig files"),
    (f"{IMPUTE} --data text.h5ad", INPUT, "text.h5ad cannot be read as an AnnData"),
    (f"{IMPUTE} --tracks 'cell1[/x]'", INPUT, "track 'cell1[/x]' is not in"),
    (f"{IMPUTE} --tracks cell1.Input --dry-run", INPUT, "cell1.Input is a control"),
    (f"{IMPUTE} --regions ' '", INPUT, "regions name no place"),
    (f"{IMPUTE} --regions chr1:10-5", INPUT, "ends where it starts or later"),
    (f"{IMPUTE} --regions none.bed", INPUT, "there is no none.bed"),
    (f"{IMPUTE} --depth 0", INPUT, "--depth"),
    (f"{IMPUTE} --depth inf", INPUT, "--depth': it must be a finite number"),
    (f"{IMPUTE} --level 1 --dry-run", INPUT, "level must be between 0 and 1"),
    (f"{IMPUTE} --accelerator tpu", INPUT, "accelerator 'tpu' is not there"),
    # report
    ("report none", INPUT, "there is no folder none"),
    ("report truncated", INPUT, "cannot be read as a model of chipvi"),
    ("report cut", INPUT, "cannot be read as TOML"),
    ("report model -o new.pdf", INPUT, "ends in .html"),
    ("report model -o none/new.html", WORLD, "there is no folder none"),
    ("report model --split-key nonsense", INPUT, "column 'nonsense' is not in"),
    # score
    ("score data.h5ad", INPUT, "Missing argument"),
    ("score none.h5ad data.h5ad", INPUT, "there is no none.h5ad"),
    ("score folder folder", INPUT, "it holds none"),
    (f"{SCORE} --biosample-key nonsense", INPUT, "biosample_key 'nonsense' is not in"),
    (f"{SCORE} --bin 200", INPUT, "are for bigWig files"),
    (f"{SCORE} --genes bad.bed", INPUT, "line 1 of bad.bed"),
    (f"{SCORE} --out new.txt", INPUT, "ends in .csv"),
    (f"{SCORE} --out taken/new.csv", WORLD, "taken is a file, where a folder is wanted"),
    (f"{SCORE} --control-key is_control", INPUT, "No such option"),
    # demo, compare-heads
    ("demo --data nonsense", INPUT, "data 'nonsense' is not in"),
    ("demo --steps 0", INPUT, "--steps"),
    ("demo --out taken", WORLD, "taken is a file, where a folder is wanted"),
    ("compare-heads none.h5ad", INPUT, "there is no none.h5ad"),
    ("compare-heads data.h5ad --heads ,", INPUT, "head '' is not in"),
    ("compare-heads data.h5ad --seeds 0", INPUT, "--seeds"),
    ("compare-heads data.h5ad --out taken", WORLD, "taken is a file, where a folder is wanted"),
]


@pytest.mark.parametrize(("line", "status", "message"), LINES, ids=[line for line, _, _ in LINES])
def test_a_wrong_line_is_refused_by_name_and_leaves_nothing(folder, monkeypatch, line, status, message):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    result = call(line)
    assert (result.exit_code, type(result.exception)) == (status, SystemExit), result.output
    unwrapped = " ".join(result.stderr.replace("│", " ").split())
    assert message in unwrapped
    if result.stderr.startswith("Error: "):
        assert result.stderr.count("\n") == 1
    else:
        assert result.stderr.startswith("Usage: ") or "requires" in unwrapped  # click's own words
    assert sorted(folder.rglob("*")) == before
