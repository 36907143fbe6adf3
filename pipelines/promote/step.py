"""Last step, if the configuration names a registered model: replace its champion if the new model is better.

The candidate and the champion are measured by the same evaluate step on the same images, and compared by
:mod:`pipelines.promote.gate`. A model is compared once: the step's key does not include the champion, so that the
next run does not undo a rollback.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hfd.config import PromoteConfig
from hfd.errors import HfdError
from hfd.io.storage import Folder
from pipelines.context import Context, PlannedStep
from pipelines.evaluate import step as evaluate
from pipelines.evaluate.report import Trained
from pipelines.promote import SPEC
from pipelines.promote.gate import Criterion, Limits, Sampled, compare, decoding, sanity, table
from pipelines.promote.results import check_measured, first_file_decodes, read_sample
from pipelines.registry.artifacts import FILES
from pipelines.registry.champion import ROLLED_BACK, Registry, Version, open_registry
from pipelines.runs.step import Done, Outcome, Step, digest_of, point_latest
from pipelines.tracking import StepRun, redact
from pipelines.tracking.redaction import plain
from pipelines.train.model_files import write_graphs

log = logging.getLogger(__name__)

CHAMPION_STEP = "champion"


@dataclass(frozen=True)
class Upstream:
    """Inputs of the step: the candidate ``model``, and the evaluation ``evaluated`` with its figures."""

    prepared: Done
    autoencoder: Done
    model: Done
    evaluated: Done


@dataclass(frozen=True)
class Verdict:
    """``against``: the version of the champion in the comparison; None: there was none."""

    passed: bool
    against: int | None
    criteria: tuple[Criterion, ...]
    reason: str = ""
    """Text of a verdict that no criterion explains: of a promotion without comparison, or of a refusal."""

    @property
    def failed(self) -> str:
        return self.reason or ", ".join(criterion.name for criterion in self.criteria if not criterion.passed)


def plan(context: Context, prepared: Done, autoencoder: Done, model: Done, evaluated: Done) -> PlannedStep:
    config = context.config
    settings = config.promote.content()
    if config.promote.model is not None:
        settings["registry"] = redact(config.tracking.uri or "")
    step = Step(SPEC.name, context.workspace, settings, {"model": model.digest, "evaluate": evaluated.digest})
    upstream = Upstream(prepared, autoencoder, model, evaluated)
    return PlannedStep(context, step, lambda folder, record: _promote(context, upstream, folder, record))


def _promote(context: Context, upstream: Upstream, folder: Folder, record: StepRun) -> Outcome:
    registry, candidate = open_registry(context.config), upstream.model.digest
    champion = registry.champion()
    if champion is not None and champion.digest == candidate:
        # Promoted by a run that was killed afterwards, or by another workspace.
        verdict = _kept(folder) or Verdict(True, None, (), "is the champion already")
        return record_outcome(registry, verdict, champion, folder, record)
    sampled = read_sample(upstream.evaluated.folder)
    check_measured(sampled, context.config.promote.distances, upstream.evaluated.folder)
    verdict = _judge(context, upstream, registry, champion, sampled)
    folder.write("verdict.json", json.dumps(asdict(verdict), indent=2).encode() + b"\n")
    version = None
    if verdict.passed:
        if not record.run_id:
            raise HfdError(
                "tracking.uri: the run for the model could not be created there. Run the same command again  "
                "once the server answers: finished work is kept"
            )
        context.guard()
        version = registry.register(upstream.model.folder, candidate, record.run_id, _tags(context, upstream, verdict))
        registry.make_champion(version, champion)
    return record_outcome(registry, verdict, version, folder, record)


def _judge(
    context: Context, upstream: Upstream, registry: Registry, champion: Version | None, sampled: Sampled
) -> Verdict:
    settings, evaluation = context.config.promote, upstream.evaluated.folder
    decodes = decoding(first_file_decodes(evaluation, next(iter(sampled.bpp)), upstream.model.folder))
    deleted = registry.deleted_champion() if champion is None else None
    if deleted is not None:
        log.warning("%s", registry.describe_deleted(deleted))
    if champion is None:
        criteria = [*sanity(sampled, settings.distances), decodes]
    else:
        measured = _evaluate_champion(context, upstream, registry, champion)
        theirs = read_sample(measured.folder)
        criteria = [*compare(theirs, sampled, _limits(settings)), decodes]
    known = registry.find(upstream.model.digest)
    reason = ""
    if known is not None and ROLLED_BACK in known.tags:
        reason = f"rolled back as version {known.number} at {known.tags[ROLLED_BACK]}"
    passed = not reason and all(criterion.passed for criterion in criteria)
    if passed and deleted is not None:
        reason = f"is champion, in place of version {deleted}, which was deleted: nothing to compare with"
    return Verdict(passed, champion.number if champion is not None else None, tuple(criteria), reason)


def _evaluate_champion(context: Context, upstream: Upstream, registry: Registry, champion: Version) -> Done:
    """Fetch the champion and evaluate it with this run's settings and images, unless that was done before."""
    step = Step(CHAMPION_STEP, context.workspace, {"model": registry.model}, {"model": champion.digest})
    facts = {"frozen": f"{registry.model} version {champion.number}"}

    def fetch(folder: Folder, _record: StepRun) -> Outcome:
        registry.fetch(champion, folder)
        write_graphs(folder, context.display)  # so that the same engine runs both
        return Outcome(champion.digest, facts)

    model = context.do(step, fetch)
    stage1 = Outcome(json.loads(model.folder.read("decoder/config.json"))["autoencoder"], facts)
    try:
        return evaluate.plan_with(context, Trained(upstream.prepared, stage1, model)).run()
    finally:  # the newest report must stay that of the candidate
        ours = upstream.evaluated.step
        point_latest(context.workspace, report=f"{ours.name}/{ours.key}/report.html")


def _limits(settings: PromoteConfig) -> Limits:
    return Limits(settings.distances, settings.max_psnr_loss_db, settings.max_bpp_rise)


def _tags(context: Context, upstream: Upstream, verdict: Verdict) -> dict[str, str]:
    """Return the tags of a version: its origin, its settings and its figures."""
    done: Sequence[Done] = (upstream.prepared, upstream.autoencoder, upstream.model, upstream.evaluated)
    tags = {f"hfd.key.{one.step.name}": one.step.key for one in done}
    tags |= {f"hfd.digest.{one.step.name}": one.digest for one in done}
    tags |= {f"hfd.measured.{line.name.split()[0]}": f"{line.candidate}" for line in verdict.criteria}
    config = plain(context.config.model_dump(mode="json"))
    return tags | {"hfd.config": json.dumps(config), "hfd.files": json.dumps(FILES)}


def _kept(folder: Folder) -> Verdict | None:
    """Return the verdict of an interrupted run of this step."""
    if not folder.exists("verdict.json"):
        return None
    found: Mapping[str, Any] = json.loads(folder.read("verdict.json"))
    verdict = Verdict(**{**found, "criteria": tuple(Criterion(**line) for line in found["criteria"])})
    return verdict if verdict.passed else None


def record_outcome(
    registry: Registry, verdict: Verdict, version: Version | None, folder: Folder, record: StepRun
) -> Outcome:
    line = _line(registry.model, verdict, version)
    text = f"{line}\n{table(verdict.criteria)}\n" if verdict.criteria else f"{line}\n"
    folder.write("verdict.txt", text.encode())
    record.log_artifact(text.encode(), name="verdict.txt")
    record.log_tags({"hfd.verdict": line})
    for criterion in verdict.criteria:
        numbers = {key: value for key, value in asdict(criterion).items() if isinstance(value, float)}
        record.log_metrics(0, {f"gate/{criterion.name}/{key}": value for key, value in numbers.items()})
    facts = {"promoted": verdict.passed, "version": version.number if version else None, "verdict": line}
    criteria = [asdict(criterion) for criterion in verdict.criteria]
    return Outcome(digest_of(asdict(verdict)), {**facts, "criteria": criteria})


def _line(model: str, verdict: Verdict, version: Version | None) -> str:
    if version is None:
        stays = "there is no champion" if verdict.against is None else f"version {verdict.against} remains champion"
        return f"not promoted in {model}, {stays}. Failed: {verdict.failed}"
    if verdict.reason:
        return f"{model} version {version.number} {verdict.reason}"
    if verdict.against is None:
        return f"{model} version {version.number} is champion, the first: nothing to compare with"
    return f"{model} version {version.number} is champion, in place of version {verdict.against}"
