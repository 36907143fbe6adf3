"""Systems to compare with: codecs that are run as programs, and pictures that were decoded elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from hfd.config.base import Place, Section

RESERVED = frozenset({"original", "autoencoder", "sample", "jpeg", "webp", "avif"})
"""Names of other systems in the tables."""

SystemName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", max_length=64)]


class ExternalCodec(Section):
    """A codec that two programs run: one encodes a picture to a file, the other decodes it.

    Lines are lists of arguments, which no shell reads. ``{input}``, ``{output}``, ``{quality}``, ``{width}`` and
    ``{height}`` are filled in, and ``{programs}`` with the folder of the line's program.
    """

    name: SystemName = Field(description="Name in tables.")
    encode: tuple[str, ...] = Field(description="Program and arguments that encode {input} to {output} at {quality}.")
    decode: tuple[str, ...] = Field(description="Program and arguments that decode {input} to {output}.")
    smallest: int = Field(ge=-1_000_000, le=1_000_000, description="Quality of the smallest file.")
    largest: int = Field(ge=-1_000_000, le=1_000_000, description="Quality of the largest file.")
    extension: str = Field(pattern=r"^[A-Za-z0-9]{1,16}$", description="Suffix of the encoded file, without a dot.")
    pixels: Literal["png", "ppm", "yuv444"] = Field(
        "png",
        description="Pictures that the programs read and write; yuv444: raw planes of 8 bits, full-range BT.709.",
    )
    timeout_s: float = Field(600.0, gt=0.0, description="Seconds after which a program is stopped.")

    @model_validator(mode="after")
    def _lines_are_complete(self) -> Self:
        for line, needed in (("encode", ("{input}", "{output}", "{quality}")), ("decode", ("{input}", "{output}"))):
            arguments: tuple[str, ...] = getattr(self, line)
            missing = [one for one in needed if not any(one in argument for argument in arguments[1:])]
            if missing or not arguments[0]:
                raise ValueError(f"{line}: got {list(arguments)}, expected a program and arguments with {needed}")
        if self.name in RESERVED:
            raise ValueError(f"name: got {self.name}, which is another system's, expected a name of its own")
        return self


class DecodedSystem(Section):
    """Pictures that a system decoded elsewhere; each has the name of its original, whatever the suffix."""

    name: SystemName = Field(description="Name in tables.")
    setting: str = Field(
        "decoded elsewhere", min_length=1, max_length=64, description="Setting in tables, such as the system's quality."
    )
    uri: Place = Field(description="Folder or s3:// prefix of the decoded pictures.")
    bytes: Place = Field(
        description="Folder or s3:// prefix of the compressed files, or a .csv file with the columns name and size "
        "(bytes) or bpp."
    )

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name in RESERVED:
            raise ValueError(f"name: got {self.name}, which is another system's, expected a name of its own")
        return self


READY: dict[str, ExternalCodec] = {
    codec.name: codec
    for codec in (
        # libjxl (Debian: libjxl-tools); version 0.7 refuses qualities below 5. No worker threads: times are then those
        # of one core, as for the other codecs.
        ExternalCodec(
            name="jpegxl",
            encode=("cjxl", "{input}", "{output}", "-q", "{quality}", "--num_threads=0", "--quiet"),
            decode=("djxl", "{input}", "{output}", "--num_threads=0", "--quiet"),
            smallest=5,
            largest=99,
            extension="jxl",
        ),
        # OpenJPEG (Debian: libopenjp2-tools): the irreversible wavelet; its quality is the factor of compression.
        ExternalCodec(
            name="jpeg2000",
            encode=("opj_compress", "-i", "{input}", "-o", "{output}", "-r", "{quality}", "-I"),
            decode=("opj_decompress", "-i", "{input}", "-o", "{output}"),
            smallest=480,
            largest=2,
            extension="j2k",
            pixels="ppm",
        ),
        # libbpg, with full chroma.
        ExternalCodec(
            name="bpg",
            encode=("bpgenc", "-q", "{quality}", "-f", "444", "-o", "{output}", "{input}"),
            decode=("bpgdec", "-o", "{output}", "{input}"),
            smallest=51,
            largest=0,
            extension="bpg",
        ),
        # VTM as CompressAI's benchmark runs it; bin/ and cfg/ are side by side in its build.
        ExternalCodec(
            name="vtm",
            encode=(
                "EncoderAppStatic", "-i", "{input}", "-c", "{programs}/../cfg/encoder_intra_vtm.cfg", "-q", "{quality}",
                "-o", "/dev/null", "-b", "{output}", "-wdt", "{width}", "-hgt", "{height}", "-fr", "1", "-f", "1",
                "--InputChromaFormat=444", "--InputBitDepth=8", "--ConformanceWindowMode=1",
            ),
            decode=("DecoderAppStatic", "-b", "{input}", "-o", "{output}", "-d", "8"),
            smallest=63,
            largest=0,
            extension="vvc",
            pixels="yuv444",
            timeout_s=7200.0,
        ),
    )
}  # fmt: skip


def _ready(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in READY:
        raise PydanticCustomError("codec", "expected an entry or one of {known}", {"known": ", ".join(READY)})
    return READY[value]


Codec = Annotated[ExternalCodec, BeforeValidator(_ready)]
"""An entry, or the name of one that is ready."""
