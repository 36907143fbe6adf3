"""The printed table of results, to the character, and its special values."""

from __future__ import annotations

import dataclasses
import math

import pytest

from hfd.report.content import SummaryRow
from hfd.report.tables import format_number, summary_columns, summary_markdown, summary_text, training_text
from tests.support.report_rows import summary_row, with_values

SAMPLE = summary_row("sample", "50 steps", 24, 0.1214, 0.1189, 27.018, 0.91884, 0.934, 31.44, 0.01214, 0.31, 38.2)
AVIF = summary_row("avif", "at most our rate", 24, 0.1187, None, math.inf, None, 0.35, None, math.nan, 1.2, 0.05)

# fmt: off
GOLDEN = (
    "system            setting           images    bpp  bpp est.  PSNR dB  MS-SSIM  energy  FD-EffNet  KD-EffNet  LPIPS  enc s/MP  dec s/MP\n"  # noqa: E501
    "────────────────  ────────────────  ──────  ─────  ────────  ───────  ───────  ──────  ─────────  ─────────  ─────  ────────  ────────\n"  # noqa: E501
    "sample (stage 2)  50 steps              24  0.121     0.119    27.02   0.9188    0.93       31.4     0.0121      –      0.31     38.20\n"  # noqa: E501
    "AVIF              at most our rate      24  0.119         –        ∞        –    0.35          –          –      –      1.20      0.05"  # noqa: E501
)
# fmt: on


def test_text_is_the_golden_table() -> None:
    assert summary_text([SAMPLE, AVIF]) == GOLDEN


def test_text_without_rows_keeps_the_headings() -> None:
    lines = summary_text([]).splitlines()
    assert lines[0].split("  ")[0] == "system"
    assert len(lines) == 2


def test_text_of_a_row_stays_on_one_line() -> None:
    hostile = dataclasses.replace(SAMPLE, setting="a\nb\x1b[31m")
    lines = summary_text([hostile]).splitlines()
    assert len(lines) == 3
    assert "a b [31m" in lines[2]


def test_every_number_ends_under_its_heading() -> None:
    heading, rule, *rows = summary_text([SAMPLE, AVIF]).splitlines()
    assert {len(line) for line in [heading, rule, *rows]} == {len(rule)}


def test_markdown_is_the_golden_table() -> None:
    assert summary_markdown([AVIF]).splitlines() == [
        "| system | setting | images | bpp | bpp est. | PSNR dB | MS-SSIM | energy | FD-EffNet | KD-EffNet "
        "| LPIPS | enc s/MP | dec s/MP |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| AVIF | at most our rate | 24 | 0.119 | – | ∞ | – | 0.35 | – | – | – | 1.20 | 0.05 |",
    ]


def test_markdown_escapes_characters_that_would_break_a_cell() -> None:
    line = summary_markdown([dataclasses.replace(SAMPLE, setting="a|b <script> *c*")]).splitlines()[2]
    assert r"a\|b &lt;script> \*c\*" in line
    assert line.replace(r"\|", "").count("|") == len(summary_columns()) + 1


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (None, 2, "–"),
        (math.nan, 2, "–"),
        (math.inf, 2, "∞"),
        (-math.inf, 2, "-∞"),
        (-0.00001, 4, "0.0000"),
        (24, 0, "24"),
        (1.005e3, 1, "1005.0"),
    ],
)
def test_number(value: float | None, digits: int, expected: str) -> None:
    assert format_number(value, digits) == expected


def test_an_unknown_system_keeps_its_name() -> None:
    assert "other" in summary_text([dataclasses.replace(SAMPLE, system="other")])


def test_metrics_that_share_a_network_with_a_loss_are_marked() -> None:
    """LPIPS of a sample is marked where AlexNet took part in the training; that of other rows and FD-EffNet are not."""
    values = (0.2, 0.2, 30.0, 0.95, 0.5, 200.0, 0.1, 1.0, 1.0)
    plain = with_values(summary_row("autoencoder", "x_hat", 2, *values), lpips=0.25)
    trained = dataclasses.replace(
        with_values(summary_row("sample", "1 step", 2, *values), lpips=0.125), trained_on=("alexnet",)
    )
    assert SummaryRow.from_record(trained.to_record()) == trained
    assert SummaryRow.from_record(plain.to_record()) == plain and "trained_on" not in plain.to_record()
    *_, first, second = summary_text([plain, trained]).splitlines()
    assert "0.250" in first and "†" not in first
    assert "0.125 †" in second and second.count("†") == 1
    assert training_text([plain]) == "Pretrained networks in the training of stage 2: none."
    assert training_text([plain, trained]) == (
        "Pretrained networks in the training of stage 2: AlexNet. † LPIPS uses one of them and does not judge it."
    )
    both = dataclasses.replace(with_values(trained, dists=0.1, lpips_vgg=0.2), trained_on=("alexnet", "vgg16"))
    assert training_text([both]) == (
        "Pretrained networks in the training of stage 2: AlexNet, VGG16. † LPIPS, LPIPS-VGG, DISTS use them and do not "
        "judge it."
    )
    assert summary_text([both]).count("†") == 3
