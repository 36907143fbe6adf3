"""Sampling options, as a user states them and as a file stores them. No torch.

``docs/format.md`` specifies every byte of the stored form.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hfd.errors import BitstreamError, ConfigError

SAMPLER_IDS: Mapping[str, int] = {
    "auto": 0, "ancestral": 1, "ddim": 2, "dpmpp-2m": 3, "euler": 4, "heun": 5, "midpoint": 6,
}  # fmt: skip
"""Ids of the samplers, never reused."""

_GRAIN, _NO_FINISH, _STEPS, _GAMMA, _REALISM, _SEED, _STOP = (1 << bit for bit in range(7))
_NUMBERS = ((_STEPS, "<H"), (_GAMMA, "<d"), (_REALISM, "<d"), (_SEED, "<Q"), (_STOP, "<d"))
_DAMAGED = "The file is damaged; fetch it again"


@dataclass(frozen=True)
class SamplingOptions:
    """Requested settings of stage 2. None: use the file's value, or else the model's.

    Fields as in :class:`hfd.diffusion.sampling.Sampling`, whose ``kind`` is ``sampler`` here. ``seed``: at least 0;
    None: derived from the file's bytes, so that the same file always gives the same picture.
    """

    steps: int | None = None
    sampler: str | None = None
    gamma: float | None = None
    realism: float | None = None
    grain: bool | None = None
    finish: bool | None = None
    seed: int | None = None
    stop: float | None = None

    def stated(self) -> dict[str, Any]:
        """The options that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def over(self, stored: SamplingOptions) -> SamplingOptions:
        """Fill options that are None from ``stored``."""
        return replace(stored, **self.stated())


def encode_sampling(options: SamplingOptions) -> bytes:
    """Encode options: sampler id, a byte of flags, then steps (u16), gamma, realism (float64), seed (u64) and stop
    (float64), each only if it is not its default. Raises :class:`ConfigError` on a value that a file cannot hold."""
    if (options.sampler or "auto") not in SAMPLER_IDS:
        raise ConfigError(f"sampler: got {options.sampler!r}, expected one of {', '.join(SAMPLER_IDS)}")
    limits = {"steps": (1, 2**16 - 1), "gamma": (0, 1), "realism": (0, 1), "seed": (0, 2**64 - 1), "stop": (0, 1)}
    defaults = {"steps": None, "gamma": 0.0, "realism": 1.0, "seed": None, "stop": 0.0}
    flags = _GRAIN * bool(options.grain) | _NO_FINISH * (options.finish is False)
    out = b""
    for (flag, kind), (name, (least, most)) in zip(_NUMBERS, limits.items(), strict=True):
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise ConfigError(f"{name}: got {value}, expected {least} to {most}")
        if value is not None and value != defaults[name]:
            flags |= flag
            out += struct.pack(kind, value)
    return bytes([SAMPLER_IDS[options.sampler or "auto"], flags]) + out


UNSTATED = encode_sampling(SamplingOptions())
"""The section of all-default options, which is never written."""


def decode_sampling(section: bytes) -> SamplingOptions:
    """Decode a section; defaults are None. Raises :class:`BitstreamError` on bytes that no encoder writes."""
    names = {number: name for name, number in SAMPLER_IDS.items()}
    if section and section[0] not in names:
        raise BitstreamError(f"sampling: got id {section[0]}, which this version does not know. Use a newer hfd")
    try:
        flags, values, position = section[1], [], 2
        for flag, kind in _NUMBERS:
            values.append(struct.unpack_from(kind, section, position)[0] if flags & flag else None)
            position += struct.calcsize(kind) * bool(flags & flag)
        steps, gamma, realism, seed, stop = values
        sampler = names[section[0]] if section[0] else None
        grain, finish = bool(flags & _GRAIN) or None, False if flags & _NO_FINISH else None
        found = SamplingOptions(steps, sampler, gamma, realism, grain, finish, seed, stop)
        is_canonical = encode_sampling(found) == section
    except (IndexError, struct.error, ConfigError) as error:
        raise BitstreamError(f"sampling: got {section[:32].hex(' ')} ({error}). {_DAMAGED}") from error
    if not is_canonical:
        raise BitstreamError(f"sampling: got {section[:32].hex(' ')}, which no encoder writes. {_DAMAGED}")
    return found
