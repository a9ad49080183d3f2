"""Two commands that write to one place: the later is refused at once, with status 2, and the first ends well."""

import time

import pytest

COMMANDS = {
    "train": (("train", "{in}/data.h5ad", "-o", "out", "--steps", 60), ("train", "-o", "out", "--resume")),
    "count": (("count", "{in}/sheet.csv", "--genome", "{in}/chrom.sizes", "--bin", 20, "-o", "out.h5ad"),),
    "impute": (("impute", "{in}/model", "-o", "out.h5ad"), ("impute", "{in}/model", "-o", "./out.h5ad")),
    "impute --bigwig": (("impute", "{in}/model", "--bigwig", "out"),),
    "report": (("report", "{in}/model", "-o", "out.html", "--overwrite"),),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_later_of_two_is_refused_and_the_first_ends_well(forks, inputs, tmp_path, name):
    first, second = ([str(one).replace("{in}", str(inputs)) for one in argv] for argv in (COMMANDS[name] * 2)[:2])
    pid = forks.start(tmp_path, *first)
    while not list((tmp_path / "work").glob(".chipvi-*.lock")):
        time.sleep(0.001)
    other = tmp_path / "other"
    other.mkdir()
    (other / "work").symlink_to(tmp_path / "work")
    refused = forks.run(other, *second)
    assert (refused.status, len(refused.lines)) == (2, 1), refused
    assert "is writing" in refused.lines[0] and f"({pid} on " in refused.lines[0]
    ended = forks.wait(pid, tmp_path)
    assert ended.status == 0, ended
    assert len(list((tmp_path / "work").iterdir())) == 1
