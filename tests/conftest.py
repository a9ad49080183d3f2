"""Fixtures that the whole suite shares."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data, which lie beside the repository and never in it."""
    beside_repository = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("CHIPVI_SHARED_DATA", beside_repository))
    if not (folder / "roadmap_tss.h5ad").is_file():
        pytest.skip(f"no real data in {folder}; say where they are with CHIPVI_SHARED_DATA")
    return folder
