"""Systems of an evaluation that are not ours: those that cannot be measured are rows without numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hfd.baselines.external import Programs, missing_programs
from hfd.config.codecs import ExternalCodec
from hfd.config.evaluate import EvaluateConfig
from hfd.metrics.table import set_metrics
from hfd.report.content import SummaryRow
from pipelines.corpus.listing import Corpus
from pipelines.evaluate.decoded import DecodedPictures, list_decoded
from pipelines.evaluate.published import Published, list_published


@dataclass(frozen=True)
class OtherSystems:
    """``missing``: external codecs that this machine lacks, and why; ``decoded``: pictures made elsewhere;
    ``published``: results of others, which are not measured here."""

    missing: Mapping[str, str]
    decoded: DecodedPictures
    published: Published = field(default_factory=Published)

    @property
    def gaps(self) -> dict[str, str]:
        """Systems of which nothing can be measured, and why."""
        return {**self.missing, **self.decoded.gaps}

    @property
    def lines(self) -> list[str]:
        """One line for each gap, for each group of names that match nothing, and for what is left out of curves."""
        gaps = [f"{name}: {reason}; its row is empty" for name, reason in self.gaps.items()]
        return [*gaps, *self.decoded.notes, *self.published.notes]


def other_systems(config: EvaluateConfig, pictures: Corpus | None) -> OtherSystems:
    """Find out which of the wanted systems can be measured on ``pictures``."""
    originals = [photo.key for photo in pictures.photos] if pictures is not None else []
    decoded = list_decoded(config.decoded, originals) if config.decoded else DecodedPictures()
    return OtherSystems(missing_codecs(programs_of(config.external)), decoded, list_published(config.curves))


def programs_of(codecs: Sequence[ExternalCodec]) -> tuple[Programs, ...]:
    """Return the entries of the configuration as the codecs take them."""
    return tuple(Programs(**codec.model_dump()) for codec in codecs)


def missing_codecs(codecs: Sequence[Programs]) -> dict[str, str]:
    """Return, by name, why this machine lacks each of these codecs."""
    found = {codec.name: missing_programs(codec) for codec in codecs}
    return {name: f"{', '.join(programs)} not found" for name, programs in found.items() if programs}


def gap_rows(gaps: Mapping[str, str], measured: Sequence[SummaryRow] = ()) -> list[SummaryRow]:
    """Return a row without numbers for each system of which nothing was measured; its setting is the reason.

    ``measured``: the other rows of the table, which has their columns.
    """
    columns = {name for row in measured for name in row.values}
    values = {metric.name: None for metric in set_metrics(columns)}
    return [SummaryRow(name, reason, 0, values) for name, reason in gaps.items()]
