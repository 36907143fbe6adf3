"""The card that the prepare step leaves: in its folder, in its run, and about the photographs that it saw."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from hfd.report.data_card import TILE_PX
from pipelines.corpus.listing import Corpus
from pipelines.prepare.data_card import CARD, NUM_CROPS, SHEET, card_of, some_crops
from pipelines.prepare.photo_table import TABLE
from pipelines.tracking import StepRun
from tests.support.snapshot_runs import run, variants, write
from tests.support.tiny_run import jpeg

pytestmark = pytest.mark.integration


def test_the_card_is_written_and_stored_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: dict[str | None, object] = {}
    monkeypatch.setattr(StepRun, "log_artifact", lambda _self, source, *, name=None, **_: stored.update({name: source}))
    photographs = tmp_path / "photographs"
    variants(photographs)
    write(photographs, "broken.jpg", b"x")
    done = run(photographs, tmp_path / "w", "prepare.drop_duplicates=true", "prepare.min_sharpness=0")
    page, sheet = done.folder.read(CARD), done.folder.read(SHEET)
    assert stored[CARD] == page and stored[SHEET] == sheet
    table = pq.read_table(io.BytesIO(done.folder.read(TABLE)))
    crops = some_crops(done.folder, 7, table)
    assert len(crops) == done.manifest.facts["train_crops"] <= NUM_CROPS
    assert Image.open(io.BytesIO(sheet)).size == (8 * TILE_PX, -(-len(crops) // 8) * TILE_PX)
    card = card_of(table, Corpus("where", (), 0), sheet, len(crops))
    assert card.counts["photographs"] == 13 and card.counts["kept"] == 11
    assert card.reasons == {"duplicate": (0, 1), "not-an-image": (0, 1)}
    assert card.formats == {"JPEG": (10, 0), "PNG": (1, 1), "other": (0, 1)}
    sizes = {one.title: len(one.kept) + len(one.rejected) for one in card.properties}
    assert sizes["Longer side"] == 12 and sizes["Estimated JPEG quality"] == 10 and sizes["Sharpness"] == 12
    assert "Colourfulness" not in sizes  # nothing asked for it


def test_many_crops_are_shown_evenly_and_without_reading_every_shard(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    for i in range(70):
        write(photographs, f"{i:03d}.jpg", jpeg(140, 150, seed=i))
    done = run(photographs, tmp_path / "w", "prepare.validation_share=0.01")
    table = pq.read_table(io.BytesIO(done.folder.read(TABLE)))
    names = [row.photo for row in some_crops(done.folder, 35, table)]
    assert names == sorted(names) and len(set(names)) == len(names) <= NUM_CROPS
    assert names[0] < "005" and names[-1] > "060"
