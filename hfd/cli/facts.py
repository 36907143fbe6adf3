"""Collect and format facts about a file, a model or a folder of models, for ``hfd info``."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from hfd.codec.container import GREY, ICC, SAMPLING, SECTION_NAMES, VERSION, Container, unpack
from hfd.codec.library import find_models
from hfd.codec.sampling_options import SamplingOptions, decode_sampling
from hfd.errors import BitstreamError, DataError
from hfd.io.failures import one_line
from hfd.io.model_folders import named_models, resolve_model
from hfd.io.storage import Folder, read_file
from hfd.io.weights import fingerprint_of, read_stored

Facts = dict[str, Any]
"""Values that JSON can hold."""


def facts_of(path: str) -> list[Facts]:
    """Collect facts of an ``.hfd`` file, or of each model under a name (a folder, a workspace, a shipped model).

    Raises :class:`hfd.errors.HfdError`.
    """
    if path in named_models() or os.path.isdir(path):  # noqa: PTH112 -- returns False for a long name
        return [_model_facts(folder) for folder in find_models(path)]
    with one_line(path):
        if not os.path.lexists(path):
            raise DataError(f"{path}: got no such file, expected a file or a folder", reason="missing")
        mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise DataError(f"{path}: got a special file, expected a file or a folder", reason="not-a-file")
    data = read_file(Path(path))
    try:
        return [_file_facts(path, unpack(data), len(data))]
    except BitstreamError as error:
        raise BitstreamError(f"{path}: {error}") from error


def _model_facts(folder: Folder) -> Facts:
    from hfd.autoencoder.entropy_model import entropy_model_of

    folder = resolve_model(folder)
    stored = read_stored(folder / "autoencoder")
    entropy_model_of(stored)  # reports weights that no engine can use
    has_decoder = folder.exists("decoder/config.json")
    return {
        "model": folder.uri,
        "autoencoder": stored.fingerprint[:8],
        "settings": {key: value for key, value in stored.config.items() if key != "format"},
        "decoder": fingerprint_of(folder / "decoder")[:8] if has_decoder else None,
    }


def _file_facts(path: str, container: Container, num_bytes: int) -> Facts:
    colour = "of its ICC profile" if ICC in container.sections else "sRGB"
    facts: Facts = {
        "file": path,
        "width": container.width,
        "height": container.height,
        "bytes": num_bytes,
        "bpp": round(8 * num_bytes / (container.width * container.height), 6),
        "version": VERSION,
        "model": container.model.hex(),
        "rate": container.rate,
        "colour": f"grey, {colour}" if GREY in container.sections else colour,
        "checksum": f"{container.checksum:08x}",
        "sections": {SECTION_NAMES.get(tag, f"section {tag}"): len(held) for tag, held in container.sections.items()},
    }
    if SAMPLING in container.sections:
        facts["sampling"] = _sampling_facts(decode_sampling(container.sections[SAMPLING]))
    return facts


def _sampling_facts(options: SamplingOptions) -> Facts:
    """Return the stored options that differ from the defaults."""
    stated = options.stated()
    kind = {"kind": stated.pop("sampler")} if options.sampler else {}
    return kind | stated


def text_of(facts: Facts) -> str:
    """Format facts as lines of text."""
    if "file" not in facts:
        lines = {
            "model": facts["model"],
            "autoencoder": f"{facts['autoencoder']}  {facts['settings']}",
            "decoder": facts["decoder"] or "none",
        }
    else:
        lines = {
            "size": f"{facts['width']} x {facts['height']}",
            "bytes": f"{facts['bytes']} ({facts['bpp']:.3f} bpp)",
            **{name: str(facts[name]) for name in ("version", "model", "rate", "colour", "checksum")},
            "holds": ", ".join(f"{name} {num_bytes} bytes" for name, num_bytes in facts["sections"].items()),
        }
        if "sampling" in facts:
            lines["sampling"] = ", ".join(f"{name} {value}" for name, value in facts["sampling"].items())
    return "\n".join(f"{name:<12} {line}" for name, line in lines.items())
