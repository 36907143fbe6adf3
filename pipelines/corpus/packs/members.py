"""Iterate over the members of a pack of any kind."""

from __future__ import annotations

from collections.abc import Generator

from hfd.errors import DataError
from hfd.image.tree import Selection, suffix_of
from pipelines.corpus.packs.files import open_version
from pipelines.corpus.packs.pack import Member, MemberSettings, Pack
from pipelines.corpus.packs.tables import TABLE_SUFFIXES, read_table
from pipelines.corpus.packs.tars import TAR_SUFFIXES, read_tar
from pipelines.corpus.s3_client import archived

PACK_SUFFIXES = TAR_SUFFIXES | TABLE_SUFFIXES

MISTAKES = frozenset({"compressed", "no-column"})
"""Reasons that end the step: every pack of the corpus probably has the fault, and all its pictures would be lost."""


def members(pack: Pack, settings: MemberSettings, selection: Selection | None = None) -> Generator[Member, None, None]:
    """Yield the pictures of the listed version of a pack, in its order, one in memory.

    ``selection``: of ``settings``; counts what is no picture, or is left out by its name.

    A pack that cannot be read, or not to its end, yields a last member with the pack's own key and the error.

    Raises:
        DataError: one line, for an outage and for the reasons in `MISTAKES`.
    """
    selection = settings.selection() if selection is None else selection
    try:
        if pack.archive:
            raise archived(pack.key, pack.archive)
        with open_version(pack.folder, pack.name, pack.size, pack.stamp) as file:
            if suffix_of(pack.name) in TABLE_SUFFIXES:
                yield from read_table(file, pack, settings, selection)
            else:
                yield from read_tar(file, pack, settings, selection)
    except DataError as error:
        if error.is_outage or error.reason in MISTAKES:
            raise
        yield Member(pack.key, pack.size, pack.version, error)
