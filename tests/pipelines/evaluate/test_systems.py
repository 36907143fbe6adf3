"""Systems beside ours: codecs that are programs, and those that are missing."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from hfd.baselines.external import Programs
from hfd.errors import ConfigError
from hfd.report.content import Report
from hfd.report.page import render
from hfd.report.tables import summary_text
from pipelines.evaluate.measure import Coded, Measured, MeasureSettings, measure
from pipelines.evaluate.results import tracked_metrics
from pipelines.evaluate.systems import gap_rows, missing_codecs
from tests.support.pictures import photograph
from tests.support.report_rows import summary_row
from tests.support.tiny_run import tiny_config

JPEG = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2], 'JPEG', quality=int(sys.argv[3]))"
PNG = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2], 'PNG')"


def program(name: str, encode: str = JPEG, executable: str = sys.executable) -> Programs:
    return Programs(
        name=name,
        encode=(executable, "-c", encode, "{input}", "{output}", "{quality}"),
        decode=(sys.executable, "-c", PNG, "{input}", "{output}"),
        smallest=40,
        largest=44,
        extension="jpg",
    )


def measured_with(*external: Programs) -> Measured:
    x = photograph(72, 80, seed=0)
    x_hat = np.clip(x.astype(int) + 5, 0, 250).astype(np.uint8)
    settings = MeasureSettings((), 64, (), (1.0,), 1 << 20, 1 << 20, external)
    return measure(Coded("a.png", x, bytes(1200), 0.1, 1.0, x_hat, 2.0), [], settings)


@pytest.mark.integration
def test_a_program_has_rows_like_any_codec_and_a_failure_lacks_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    broken = program("broken", "import sys; sys.exit('out of luck')")
    absent = program("absent", executable="no-such-program")
    measured = measured_with(broken, absent, program("mine"))
    rows = [row for row in measured.rows if row.system != "autoencoder"]
    assert {row.system for row in rows} == {"mine"} and len(rows) >= 1
    for row in rows:
        assert row.values["bpp"] == 8 * row.num_bytes / (72 * 80)
        assert row.values["psnr"] is not None and row.values["psnr"] > 20
        assert ("mine", row.setting) in measured.features["efficientnet"].decoded
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and said.startswith("hfd: a.png: broken: ") and "out of luck" in said


def test_a_missing_program_is_a_row_without_numbers() -> None:
    gaps = missing_codecs([program("mine"), program("absent", executable="no-such-program")])
    assert gaps == {"absent": "no-such-program not found"}
    (gap,) = gap_rows(gaps)
    assert gap.num_images == 0 and set(gap.values.values()) == {None}
    assert tracked_metrics(gap) == {"absent no-such-program not found/images": 0.0}
    ours = summary_row("autoencoder", "x_hat", 2, 0.12, 0.1, 30.0, 0.9, 0.5, 31.4, 0.1, 0.3, 38.2)
    line = summary_text([ours, gap]).splitlines()[-1].split()
    assert line[0] == "absent" and set(line[5:]) == {"–"}
    assert "no-such-program not found" in render(Report("Report", (ours, gap), (), (), (), ()))


def test_a_row_without_numbers_has_the_columns_of_optional_metrics() -> None:
    ours = summary_row("autoencoder", "x_hat", 2, 0.12, 0.1, 30.0, 0.9, 0.5, 31.4, 0.1, 0.3, 38.2)
    with_dists = replace(ours, values={**ours.values, "dists": 0.2})
    (gap,) = gap_rows({"absent": "not found"}, [with_dists])
    assert gap.values.keys() == with_dists.values.keys()
    assert summary_text([with_dists, gap]).splitlines()[-1].split()[-1] == "–"
    assert "not found" in render(Report("Report", (with_dists, gap), (), (), (), ()))


def test_entries_and_ready_names_are_settings(tmp_path: object) -> None:
    config = tiny_config("photos", str(tmp_path), "evaluate.external=[jpegxl, jpeg2000]")
    assert [codec.name for codec in config.evaluate.external] == ["jpegxl", "jpeg2000"]
    assert "external" not in tiny_config("photos", str(tmp_path)).evaluate.content()
    for wrong, message in (
        ("[jpegxs]", "evaluate.external.0: got 'jpegxs', expected an entry or one of jpegxl, jpeg2000, bpg, vtm"),
        ("[jpegxl, jpegxl]", "got jpegxl more than once, expected names that differ"),
        (
            "[{name: avif, encode: [a, '{input}', '{output}', '{quality}'], decode: [b, '{input}', '{output}'], "
            "smallest: 1, largest: 2, extension: a}]",
            "name: got avif, which is another system's",
        ),
        (
            "[{name: a, encode: [a, '{input}', '{output}'], decode: [b, '{input}', '{output}'], "
            "smallest: 1, largest: 2, extension: a}]",
            "encode: got",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            tiny_config("photos", str(tmp_path), f"evaluate.external={wrong}")
        assert message in str(caught.value) and "\n" not in str(caught.value)
