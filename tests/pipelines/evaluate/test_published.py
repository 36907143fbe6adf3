"""Published curves: read from CSV, drawn with their protocol, and what is wrong with them costs a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfd.io.storage import Folder
from hfd.metrics.table import METRICS
from hfd.report.content import PublishedPoint, Report
from hfd.report.page import render
from hfd.report.plots import rate_plot
from hfd.report.tables import published_text
from pipelines.evaluate.published import list_published
from tests.support.report_rows import summary_row

ROWS = (summary_row("sample", "1 step", 2, 0.2, None, 27.0, 0.9, 0.5, 40.0, None, 0.1, 0.2),)


def table(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_points_have_their_metrics_by_name_label_or_heading(tmp_path: Path) -> None:
    text = 'System,BPP,PSNR dB,ms-ssim,lpips,Protocol\nHiFiC,0.2,30.5,0.9,,CLIC\nELIC,0.4,,0.97,0.1,"Kodak, mean"\n'
    found = list_published(table(tmp_path / "results.csv", text))
    assert found.points == (
        PublishedPoint("HiFiC", "CLIC", 0.2, {"psnr": 30.5, "ms_ssim": 0.9}),
        PublishedPoint("ELIC", "Kodak, mean", 0.4, {"ms_ssim": 0.97, "lpips": 0.1}),
    )
    assert found.notes == () and len(found.digest) == 64
    assert published_text(found.points[0]) == "published: HiFiC (CLIC): 0.200 bpp, PSNR 30.50 dB, MS-SSIM 0.9000"


def test_lines_that_cannot_be_used_are_left_out_and_named(tmp_path: Path) -> None:
    lines = ["system,protocol,bpp,psnr,fid", "a,P,0.1,30,9", "b,,0.1,30,9", "c,,0.2,30,9", ",P,0.2,30,9", "d,P,x,30,9"]
    place = table(tmp_path / "r.csv", "\n".join([*lines, "e,P,0.3,,9", "f,P,-1,30,9", "g,P", "h,P,0.2,inf,9"]))
    found = list_published(place)
    assert [point.system for point in found.points] == ["a"]
    assert found.notes == (
        "evaluate.curves: no metric here has the name of column fid: left out",
        f"evaluate.curves: {place}: lines 3, 4 without a protocol: left out",
        f"evaluate.curves: {place}: line 5 without a system: left out",
        f"evaluate.curves: {place}: lines 6, 9 with text in place of a number: left out",
        f"evaluate.curves: {place}: lines 7, 8, 10 without a rate above 0 and a finite value: left out",
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.csv", "system,bpp,psnr\na,0.1,30\n", "expected the columns protocol"),
        ("r.csv", "", r"got the headings []"),
        ("r.csv", "system,protocol,bpp,fid\na,P,0.1,9\n", "expected a column of a metric, such as psnr"),
        ("r.csv", 'system,"bpp\n', "not readable as CSV"),
        ("r.txt", "system,protocol,bpp,psnr\n", "expected a .csv file"),
        ("none.csv", None, "got no such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    place = str(tmp_path / name) if text is None else table(tmp_path / name, text)
    found = list_published(place)
    (note,) = found.notes
    assert found.points == () and message in note and note.endswith("; no published curve is drawn")
    assert "\n" not in note and found.digest


def test_the_digest_follows_the_file(tmp_path: Path) -> None:
    place = table(tmp_path / "r.csv", "system,protocol,bpp,psnr\na,P,0.1,30\n")
    first = list_published(place).digest
    assert list_published(place).digest == first
    table(tmp_path / "r.csv", "system,protocol,bpp,psnr\na,P,0.1,31\n")
    assert list_published(place).digest != first
    assert list_published(None).digest == ""


def test_a_plot_names_the_protocol_of_each_published_curve() -> None:
    points = [PublishedPoint("x", protocol, bpp, {"psnr": 30.0}) for protocol in ("P $1$", "Q") for bpp in (0.1, 0.3)]
    chart = rate_plot(ROWS, METRICS["psnr"], points)
    assert [mark.text for mark in chart.marks][1:3] == [
        "published: x (P $1$): 0.100 bpp, PSNR dB 30.00", "published: x (P $1$): 0.300 bpp, PSNR dB 30.00",
    ]  # fmt: skip
    svg = chart.svg.decode()
    assert "published: x (P $1$)" in svg and "published: x (Q)" in svg and "stroke-dasharray" in svg
    assert "published" not in rate_plot(ROWS, METRICS["lpips"], points).svg.decode()
    alone = rate_plot((), METRICS["psnr"], points)
    assert len(alone.marks) == 4


def test_the_page_has_published_results_in_a_table_of_their_own() -> None:
    point = PublishedPoint("<b>x</b>", "P & Q", 0.25, {"psnr": 30.0})
    page = render(Report("A report", ROWS, (), (), (), (), published=(point,)))
    table = page.partition("Published results")[2].partition("</table>")[0]
    assert "&lt;b&gt;x&lt;/b&gt;" in table and "P &amp; Q" in table and 'data-value="30.0"' in table
    assert "Published results" not in render(Report("A report", ROWS, (), (), (), ()))


def test_a_file_on_s3_is_read(s3: Folder) -> None:
    s3.write("r.csv", b"system,protocol,bpp,psnr\na,P,0.1,30\n")
    assert len(list_published(f"{s3.uri}/r.csv").points) == 1
