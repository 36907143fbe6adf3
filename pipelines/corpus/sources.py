"""The corpus of a run: one source, or several with shares."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from hfd.config import DataConfig, SourceConfig
from hfd.errors import ConfigError
from hfd.image.tree import Skipped, merged
from pipelines.corpus.listing import Corpus, Origin, list_corpus
from pipelines.corpus.packs.pack import MemberSettings, is_chosen


def list_sources(data: DataConfig, on_progress: Callable[[int, None], None] | None = None) -> Corpus:
    """List ``data.uri``, or all of ``data.sources`` as one corpus; there, keys begin with the names of the sources.

    Raises:
        ConfigError, DataError: one line, as :func:`list_corpus`; sources of one name.
    """
    columns = MemberSettings(metadata=data.metadata, where=data.where).columns
    if not data.sources:
        return list_corpus(data.uri, setting="data.uri", columns=columns, ignore=data.ignore, on_progress=on_progress)
    names = _names(data.sources)
    photos, packs, skipped, origins = [], [], Skipped(), []
    for index, (source, name) in enumerate(zip(data.sources, names, strict=True)):
        setting = f"data.sources[{index}].uri"
        found = list_corpus(source.uri, setting=setting, columns=columns, ignore=data.ignore, on_progress=on_progress)
        for photo in found.photos:
            key = f"{name}/{photo.key}"
            if is_chosen(key, source.share):
                photos.append(replace(photo, key=key))
        packs += [replace(pack, key=f"{name}/{pack.key}", share=source.share) for pack in found.packs]
        skipped = merged(skipped, found.skipped)
        origins.append(Origin(name, source.uri, source.share))
    photos.sort(key=lambda photo: photo.key)
    packs.sort(key=lambda pack: pack.key)
    uri = ", ".join(source.uri for source in data.sources)
    return Corpus(uri, tuple(photos), skipped.num_other, skipped, tuple(packs), tuple(origins))


def _names(sources: Sequence[SourceConfig]) -> list[str]:
    names = [source.name or _name(source.uri) for source in sources]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigError(
                f"data.sources[{index}].name: got {name} for two sources, expected a name for each. Set it"
            )
    return names


def _name(uri: str) -> str:
    """Return the last part of a URI without a pattern, with plain characters only."""
    parts = [part for part in uri.partition("?")[0].split("/") if part and not re.search(r"[*{}]", part)]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", parts[-1]).strip("-.") if parts else "source"
