"""The ``hfd`` command: the codec's commands and the pipeline's. Heavy imports stay inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.core

from hfd.cli.exit_codes import run_app
from hfd.cli.main import create_app
from hfd.cli.options import not_nan
from pipelines.extras import check_extra, check_installed, explain
from pipelines.spec import StepSpec
from pipelines.workflow import STEPS, model_step, steps_of

if TYPE_CHECKING:
    from hfd.config import Config

app = create_app(
    "High-Fidelity Diffusion image compression: train the two stages, evaluate them, compress and decompress."
)

Preset = Annotated[
    str,
    typer.Option(
        "--config",
        "-c",
        help="A preset (demo, desk, desk-012, desk-diffusion, lean, score, coco256, clic, compare) or a .yaml file.",
    ),
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings as key=value, such as data.uri=photos.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the settings and what would run; start nothing.")]
Address = Annotated[
    str | None,
    typer.Option("--address", "-a", help="The job server. Default: RAY_API_SERVER_ADDRESS, or http://127.0.0.1:8265."),
]


def main() -> NoReturn:
    """Run the ``hfd`` command. Exit codes: :mod:`hfd.cli.exit_codes`."""
    try:
        run_app(app)
    except ModuleNotFoundError as error:
        if (missing := explain(error)) is None:
            raise
        print(f"hfd: {missing}", file=sys.stderr)
        sys.exit(missing.exit_code)


class _PipelineCommand(typer.core.TyperCommand):
    """A command that reports a missing extra before it reports a mistake in its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter:
            check_extra("pipeline")
            raise


@app.command(cls=_PipelineCommand)
def retrain(config: Preset, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Run every step, from photographs to two trained stages and a report. Finished steps are skipped."""
    check_extra("pipeline")
    _run_pipeline(config, overrides, dry_run, only=None)


def _add_step(spec: StepSpec) -> None:
    @app.command(spec.name, help=spec.help)
    def run(config: Preset, overrides: Overrides = None, dry_run: DryRun = False) -> None:
        check_extra(spec.extra)
        _run_pipeline(config, overrides, dry_run, only=spec.name)


for _spec in STEPS:
    _add_step(_spec)


@app.command()
def rollback(
    config: Preset,
    overrides: Overrides = None,
    to: Annotated[int | None, typer.Option("--to", min=1, help="A version. Default: the previous champion.")] = None,
) -> None:
    """Make the previous champion of promote.model, or the version of --to, the champion again."""
    check_extra("pipeline")
    from hfd.config.presets import load_config
    from pipelines.registry.champion import open_registry

    print(open_registry(load_config(config, overrides or ())).rollback(to))


@app.command()
def runs(
    config: Preset,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of JSON objects.")] = False,
) -> None:
    """List the runs of a workspace: last output, age, size, what it needs, latest and registered models."""
    check_extra("pipeline")
    import json
    import time

    from hfd.config.presets import load_config
    from pipelines.retention.commands import list_runs, run_table

    found, now = list_runs(load_config(config, overrides or ())), time.time()
    print(json.dumps([one.to_record(now) for one in found], indent=1) if as_json else run_table(found, now))


@app.command()
def clean(
    config: Preset,
    overrides: Overrides = None,
    keep_last: Annotated[int, typer.Option(min=0, help="Keep what the newest runs need, this many.")] = 3,
    older_than: Annotated[str, typer.Option(help="Keep what is younger, such as 12h or 30d.")] = "1d",
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Only the checkpoints of finished trainings, which nothing reads.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, list what would be deleted.")] = False,
) -> None:
    """Delete the outputs of a workspace that neither latest.json, a registered model nor a kept run needs."""
    check_extra("pipeline")
    from hfd.cli.progress import Terminal
    from hfd.config.presets import load_config
    from pipelines.retention.commands import Cleaning
    from pipelines.retention.commands import clean as run

    run(load_config(config, overrides or ()), Cleaning(keep_last, older_than, checkpoints, yes), Terminal())


@app.command()
def report(
    evaluations: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Finished evaluations: workspaces (folders, s3:// prefixes or names under runs/), their evaluate/KEY "
            "folders, or ids of MLflow runs. LABEL=RUN names it; runs of one label are points of one curve.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Title of the page. Default: the names of the runs.")] = "",
    pictures: Annotated[int, typer.Option(min=0, max=1000, help="Most pictures in the gallery; 0: none.")] = 24,
    tracking: Annotated[
        str | None, typer.Option(help="Server of MLflow runs. Default: MLFLOW_TRACKING_URI of the environment.")
    ] = None,
) -> None:
    """Compare finished evaluations on one page: curves, tables, pictures, and the commands to make each again."""
    check_extra("pipeline")
    from pipelines.compare.command import Request, write_comparison

    print(write_comparison(Request(tuple(evaluations), output, title, pictures, tracking)))


@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND...", help="The command and its options, such as retrain -c coco256 ..."),
    ],
    address: Address = None,
    size: Annotated[str | None, typer.Option(help="A cluster size: cpu-4, gpu-1 or gpu-8.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the job; no secrets. May be repeated.")] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(help="A variable that must be set in the cluster's own environment. May be repeated."),
    ] = None,
    code: Annotated[
        bool | None,
        typer.Option("--code/--no-code", help="Send this checkout's code. Default: yes if hfd runs from a checkout."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and do not wait for it.")] = False,
    patience: Annotated[
        float, typer.Option(min=0.0, callback=not_nan, help="Seconds to wait for a job server that stops answering.")
    ] = 600.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job and its upload; start nothing.")] = False,
) -> None:
    """Run a step, or all of them, on a Ray cluster; show its log and return its exit code."""
    check_extra("pipeline")
    from pipelines.jobs.commands import describe, run
    from pipelines.jobs.plan import is_checkout, plan_job, read_command

    job = plan_job(
        read_command(typer.main.get_command(app), command),
        size=size, env=env or (), secrets=secret or (), code=is_checkout() if code is None else code,
    )  # fmt: skip
    if dry_run:
        print(describe(job))
        return
    sys.exit(run(job, address, detach=detach, patience_s=patience))


@app.command()
def jobs(address: Address = None) -> None:
    """List the jobs of a Ray cluster: id, status, time of that status, command."""
    from pipelines.jobs.commands import job_table

    print(job_table(address))


@app.command()
def stop(job: Annotated[str, typer.Argument(help="A job's id, from hfd jobs.")], address: Address = None) -> None:
    """Stop a job on a Ray cluster. Finished work is kept; submit the same command again to continue."""
    from pipelines.jobs.commands import stop_job

    print(stop_job(job, address))


def _run_pipeline(preset: str, overrides: list[str] | None, dry_run: bool, *, only: str | None) -> None:
    from hfd.config.presets import load_config

    config = load_config(preset, overrides or ())
    if dry_run:
        _print_plan(config, only)
        return
    check_installed(config, [spec for spec in steps_of(config) if only in (None, spec.name)])
    from hfd.cli.progress import Terminal
    from pipelines.retrain import retrain as run

    done = {one.step.name: one for one in run(config, Terminal(), only=only)}
    if all(one.skipped for one in done.values()):
        return  # reported already
    if "evaluate" in done:
        folder = done["evaluate"].folder
        print()
        print(folder.read("summary.txt").decode(), end="")
        print(f"\nreport: {folder.uri}/report.html")
        made = model_step(config)
        if only is None and made is not None:
            print(f"model:  {done[made].folder.uri}")
    if "promote" in done:
        print()
        print(done["promote"].folder.read("verdict.txt").decode(), end="")


def _print_plan(config: Config, only: str | None) -> None:
    import yaml

    from hfd.cli.progress import Terminal
    from pipelines.retrain import list_inputs, notes_on, plan
    from pipelines.train.model_sizes import describe_models

    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True), end="")
    if model_step(config) is not None:
        print(f"\n{describe_models(config)}\n")
    if model_step(config) is not None and not config.data.uris:
        print("steps: unknown until data.uri is given")
        return
    for line in notes_on(config):
        print(f"{line}\n")
    for one in plan(config, list_inputs(config, Terminal())):
        if only in (None, one.name):
            state = "done" if one.done else "would run"
            where = one.step.folder.uri if one.step is not None else "key known once the previous steps are done"
            print(f"{one.name:<18} {state:<10} {where}")
