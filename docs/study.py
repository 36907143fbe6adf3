"""Study the paper's claims at desk scale: train the kinds of decoder at equal budgets, and write tables and plots.

    python docs/study.py --photos ../shared/data/photos --kodak ../shared/data/kodak [--budget "12000 steps"]

Every result is from ``hfd retrain`` with the preset ``desk-diffusion`` and other settings, on the autoencoder of a
shipped model, in the workspace ``runs/study``. Finished steps are skipped, so that an interrupted study continues. The
kinds and shifts are compared on a network with a quarter of the preset's work per pixel, which trains on four times the
pictures in the same time. Writes ``docs/study/`` (a Markdown table for each set of pictures, and plots as SVG).

(a) rectified flow and posterior-mean start against diffusion, by steps; (b) the shift s of diffusion's schedule;
(c) gamma of the ancestral sampler; (d) realism and (e) finish and grain, on the shipped decoder.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from hfd.cli.progress import Terminal
from hfd.config.presets import load_config
from hfd.report.content import SummaryRow
from hfd.report.tables import summary_markdown
from pipelines.retrain import retrain

STEPS = (1, 2, 4, 8, 16, 50, 250)
REALISM = (0.0, 0.25, 0.5, 0.75, 1.0)
GAMMAS = (0.0, 0.1, 0.3, 1.0)
SHIFTS = (2.0, 1.0, 0.5, 0.25)
KINDS = ("diffusion, s 0.5", "rectified flow", "posterior-mean flow")
UNET = "decoder.unet={patch: 4, channels: [64, 128], blocks: [1, 3]}"
FIELDS = {"fd_effnet": "FD-EffNet", "psnr": "PSNR, dB", "top_octave_energy": "top-octave energy over the original's"}


@dataclass(frozen=True)
class Part:
    """Some lines of the table: a decoder (``settings``, overrides of the preset) with its ``samplers``."""

    name: str
    settings: tuple[str, ...]
    samplers: tuple[str, ...]


def trained(process: str) -> tuple[str, ...]:
    return (f"decoder.process={{{process}, residual_std: 0.1}}", UNET)


def diffusion(s: float) -> tuple[str, ...]:
    return trained(f"kind: diffusion, s: {s}")


def parts(shipped: str) -> list[Part]:
    by_steps = tuple(f"{{steps: {steps}}}" for steps in STEPS)
    gammas = tuple(f"{{steps: 50, gamma: {gamma}}}" for gamma in GAMMAS if gamma)
    flow, start = trained("kind: rectified-flow"), trained("kind: posterior-mean-flow, sigma_s: 0.1")
    frozen = (f"decoder.warm_start={shipped}", "decoder.frozen=true")
    own = (*(f"{{realism: {realism}}}" for realism in REALISM if realism < 1), "{}", "{grain: true}")
    return [
        Part("diffusion, s 0.5", diffusion(0.5), (*by_steps, *gammas, "{steps: 50, grain: true}")),
        Part("rectified flow", flow, by_steps),
        Part("posterior-mean flow", start, by_steps),
        *(Part(f"diffusion, s {s:g}", diffusion(s), ("{steps: 50}",)) for s in SHIFTS if s != 0.5),
        Part("shipped", frozen, own),
    ]


def run_part(part: Part, options: argparse.Namespace, pictures: str | None) -> list[SummaryRow]:
    """Return the summary of one decoder on one set of pictures (None: the validation split)."""
    settings = [
        "name=study", "workspace=runs/study", f"data.uri={options.photos}", "cluster.kind=inline",
        f"autoencoder.warm_start={options.model}", "autoencoder.frozen=true",
        f"decoder.train.budget={options.budget}", *part.settings,
        f"evaluate.samplers=[{', '.join(part.samplers)}]", "evaluate.baselines=[]",
        f"evaluate.data={'null' if pictures is None else pictures}",
    ]  # fmt: skip
    done = retrain(load_config("desk-diffusion", settings), Terminal())[-1]
    return [SummaryRow.from_record(row) for row in done.manifest.facts["summary"]]


def table(results: dict[str, list[SummaryRow]]) -> list[SummaryRow]:
    """Format one line for x_hat, which all share, and then each decoder's samples under its name."""
    rows = [next(row for rows in results.values() for row in rows if row.system == "autoencoder")]
    for name, found in results.items():
        rows += [replace(row, system=name) for row in found if row.system == "sample"]
    return rows


def plot_by_steps(results: dict[str, list[SummaryRow]], field: str, label: str) -> str:
    """Plot a measure against the number of sampling steps as SVG: a line per kind, and the level of x_hat."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hfd"}):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot()
        for name in KINDS:
            found = [(int(row.setting.split()[0]), row.values[field]) for row in results[name] if plain(row)]
            axes.plot(*zip(*sorted(found), strict=True), marker="o", label=name)
        x_hat = table(results)[0]
        axes.axhline(x_hat.values[field], color="grey", linestyle="--", label="x_hat")
        axes.set_xscale("log", base=2)
        axes.set_xticks(STEPS, [str(steps) for steps in STEPS])
        axes.set(xlabel="sampling steps", ylabel=label)
        axes.legend()
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def plain(row: SummaryRow) -> bool:
    """Return True for a sample at its kind's defaults except the number of steps."""
    return row.system == "sample" and "," not in row.setting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--kodak", required=True)
    parser.add_argument("--model", default="desk-025")
    parser.add_argument("--budget", default="12000 steps")
    parser.add_argument("--out", type=Path, default=Path("docs/study"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, pictures in (("kodak", options.kodak), ("validation", None)):
        results = {part.name: run_part(part, options, pictures) for part in parts(options.model)}
        (options.out / f"{name}.md").write_text(summary_markdown(table(results)) + "\n")
        for field, label in FIELDS.items():
            (options.out / f"{name}-{field}.svg").write_text(plot_by_steps(results, field, label))
        print(summary_markdown(table(results)))


if __name__ == "__main__":
    main()
