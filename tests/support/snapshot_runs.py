"""Prepared snapshots of a corpus, for tests: photographs whose times never change, and what a run of them left."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from hfd.data.shards import SPLITS, iterate_rows
from hfd.io.storage import Folder
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import list_corpus
from pipelines.engine.inline import Inline
from pipelines.prepare import step as prepare
from pipelines.prepare.photo_table import TABLE
from pipelines.runs.step import Done
from tests.support.pictures import photograph
from tests.support.tiny_run import jpeg, tiny_config

DEDUPLICATED = ("prepare.drop_duplicates=true", "prepare.near_bits=4")


def write(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    os.utime(folder / name, ns=(1, 1))  # the same in every copy of the folder


def write_many(folder: Path, numbers: range) -> None:
    for i in numbers:
        write(folder, f"{i:03d}.jpg", jpeg(150 + 3 * (i % 9), 190 - 3 * (i % 7), seed=i))


def run(photographs: Path | str, workspace: Path | str, *overrides: str, evaluation: Path | str | None = None) -> Done:
    config = tiny_config(photographs, workspace, "prepare.max_reject_share=0.9", *overrides)
    context = Context(config, Folder(config.workspace_uri), Inline(config.cluster))
    pictures = list_corpus(str(evaluation), setting="evaluate.data") if evaluation is not None else None
    return prepare.plan(
        replace(context, inputs=Inputs(list_corpus(str(photographs), setting="data.uri"), pictures))
    ).run()


def outputs(done: Done) -> dict[str, bytes]:
    """The shards and tables that later steps and people read."""
    names = [entry.key for entry in done.folder.files() if "/" not in entry.key and entry.key != "manifest.json"]
    return {name: done.folder.read(name) for name in names}


def table(done: Done) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(io.BytesIO(done.folder.read(TABLE))).to_pylist()
    return {row["photo"]: row for row in rows}


def kept(done: Done) -> set[str]:
    return {row.photo for split in SPLITS for row in iterate_rows(done.folder, split)}


def check_same(grown: Done, afresh: Done) -> None:
    assert grown.digest == afresh.digest and grown.step.key == afresh.step.key
    assert outputs(grown) == outputs(afresh)
    assert {**grown.manifest.facts, "copied": 0} == afresh.manifest.facts


def variants(folder: Path) -> None:
    """Eight pictures of their own; one of them again in other guises."""
    write_many(folder, range(10, 18))
    picture = Image.fromarray(photograph(200, 240, seed=500))

    def save(name: str, image: Image.Image, **options: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if name.endswith("png") else "JPEG", **options)
        write(folder, name, buffer.getvalue())

    save("20 original.png", picture)
    save("30 smaller.jpg", picture.resize((180, 150), Image.Resampling.LANCZOS), quality=85)
    save("05 recompressed.jpg", picture, quality=60)
    write(folder, "40 same bytes.png", (folder / "20 original.png").read_bytes())


def reasons(done: Done) -> dict[str, str]:
    return {name: row["reason"] for name, row in table(done).items() if row["reason"]}
