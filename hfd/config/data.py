"""Settings of the photographs' sources."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from hfd.config.base import Place, Section

NonEmpty: TypeAlias = Annotated[str, Field(min_length=1)]
Scalar: TypeAlias = bool | int | float | str
Mark: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
Condition: TypeAlias = tuple[str, Mark, Scalar | tuple[Scalar, ...]]


class SourceConfig(Section):
    """One of several sources."""

    uri: Place = Field(description="As data.uri.")
    share: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Share of its photographs to use, chosen by hashes of their keys; a larger share only adds some.",
    )
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="First part of the keys of its photographs; None: the last name of the URI without a pattern.",
    )


class DataConfig(Section):
    """Sources of the photographs."""

    later = frozenset({"sources", "image_column", "metadata", "where", "ignore"})

    uri: Place | None = Field(
        None,
        description="Folder or s3://bucket/prefix of pictures, tars or Parquet files; one tar or Parquet file; a "
        "pattern such as x-{000..999}.tar; a list of URIs (.jsonl, .csv, .tsv); or builtin:photographs (those of "
        "scikit-image and scikit-learn). Required, or data.sources: set it with data.uri=...",
    )
    sources: tuple[SourceConfig, ...] = Field((), description="Several sources in place of data.uri.")
    ignore: tuple[NonEmpty, ...] = Field(
        (),
        description="Patterns of names to leave out, beside thumbnails, hidden and system files: ['*_thumb.*', raw, "
        "/old/x]. Names of files and folders at any depth or, with a slash before or inside, from the source on; of "
        "members of tars and paths in Parquet files too.",
    )
    image_column: str | None = Field(
        None, description="Column of Parquet files that holds the pictures; None: the only one that can, or image."
    )
    metadata: tuple[str, ...] = Field(
        (),
        description="Fields to carry to photos.parquet: of the JSON and text files of a sample in a tar, of the "
        "columns of a Parquet file or of a list.",
    )
    where: tuple[Condition, ...] = Field(
        (),
        description="Conditions on such fields, as [[licence, in, [cc0, cc-by]], [width, '>=', 512]]; all must hold. "
        "Operators: ==, !=, <, <=, >, >=, in, not in. A photograph without the field is left out.",
    )

    @property
    def uris(self) -> dict[str, str]:
        """The URIs of all sources, by the settings that hold them; empty while there is none."""
        several = {f"data.sources[{index}].uri": source.uri for index, source in enumerate(self.sources)}
        return several if self.uri is None else {"data.uri": self.uri}

    @model_validator(mode="after")
    def _values_fit_operators(self) -> Self:
        if self.uri is not None and self.sources:
            raise ValueError("sources: got data.uri too, expected one of them. Set data.uri=null")
        for name, mark, value in self.where:
            if isinstance(value, tuple) != (mark in ("in", "not in")):
                expected = "a list" if mark in ("in", "not in") else "one value"
                raise ValueError(f"where: got {name} {mark} {value!r}, expected {expected}. Correct it")
        return self
