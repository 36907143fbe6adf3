"""Keys of steps recorded with the code before the move into rooms: its workspaces are still skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfd.io.storage import Folder
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import Corpus
from pipelines.engine.inline import Inline
from pipelines.runs.step import Done, Manifest, Step
from pipelines.spec import MODEL
from pipelines.workflow import STEP_NAMES, STEPS
from tests.support.tiny_run import tiny_config

FORMER = "desk-025-1bdbc6d0"
"""Weights that stay as they are."""

RECORDED = [
    (
        (),
        "781e866e2046b88a 3ba61cbb1f5a4dfb 616a56c2eb7a3bd9 405f4562a9b18d84 "
        "f4be3111d51cb3a3 127e6c91e5f8eebd b521cd532e57931b",
    ),
    (
        (f"autoencoder.warm_start={FORMER}", "autoencoder.frozen=true", f"decoder.warm_start={FORMER}"),
        "781e866e2046b88a 405d4e19b6913059 616a56c2eb7a3bd9 8b98df4744bab6b9 "
        "f4be3111d51cb3a3 127e6c91e5f8eebd b521cd532e57931b",
    ),
    (
        ("prepare.drop_evaluation=true", "promote.model=m", "tracking.uri=http://h:1"),
        "0ab0bdc02f418c6b 3ba61cbb1f5a4dfb 616a56c2eb7a3bd9 405f4562a9b18d84 "
        "f4be3111d51cb3a3 bfe90ac29b600aae 2b41f43ffbdad01d",
    ),
]
"""Overrides, and the keys of :data:`pipelines.workflow.STEPS` with inputs whose digests are their names."""


def done(name: str) -> Done:
    step = Step(name, Folder("unused"), {}, {})
    return Done(step, Manifest(name, step.key, name, {}, {}, {}, 0.0), skipped=True)


@pytest.mark.parametrize(("overrides", "keys"), RECORDED, ids=["trained", "frozen", "promoted"])
def test_keys_are_those_of_earlier_workspaces(tmp_path: Path, overrides: tuple[str, ...], keys: str) -> None:
    config = tiny_config("photos", tmp_path, "decoder.adversarial.weight=0.1", *overrides)
    pictures = Corpus("pictures", (), 0) if config.promote.model is not None else None
    inputs = Inputs(Corpus("photos", (), 0), pictures)
    context = Context(config, Folder(str(tmp_path)), Inline(config.cluster), inputs=inputs)
    finished = {name: done(name) for name in STEP_NAMES}
    finished[MODEL] = finished["finetune-decoder"]
    planned = [spec.plan(context, finished) for spec in STEPS]
    assert [one.step.key for one in planned if one is not None] == keys.split()
    assert list(tmp_path.iterdir()) == []
