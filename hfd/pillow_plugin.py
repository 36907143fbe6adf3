"""Pillow plugin: ``import hfd.pillow_plugin`` lets Pillow open and save ``.hfd`` files. ``import hfd`` does not.

``Image.open`` reads and checks the whole file and decodes nothing: size, mode and ``info`` come from the header and
the sections. The engine, the model and the pixels are loaded at the first ``load()``, with the shipped model that made
the file or the one in ``image.model``. ``image.options`` may hold further arguments of :func:`hfd.api.decompress`,
such as ``{"realism": 0.0}``. Nothing in a file is unpickled or executed.

``image.save("a.hfd")`` takes the size, ``refine``, model, engine and sampling arguments of :func:`hfd.api.compress`,
``icc_profile``, ``exif`` and ``xmp`` (of which the rights are kept) as Pillow's other formats do. Without a profile,
colours are converted to sRGB.
"""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import fields
from typing import IO, Any

from PIL import Image, ImageFile

from hfd.codec.container import ALPHA, EXIF, GREY, ICC, MAGIC, XMP, unpack
from hfd.codec.picture.content import info_of
from hfd.codec.sections import Extras, metadata_of
from hfd.errors import HfdError, PictureWarning

FORMAT = "HFD"


class HfdImageFile(ImageFile.ImageFile):
    """An ``.hfd`` file. Set ``model`` and ``options`` before ``load()``."""

    format = FORMAT
    format_description = "High-Fidelity Diffusion"

    model: str | os.PathLike[str] | None = None
    _data: bytes | None = None

    def _open(self) -> None:
        assert self.fp is not None
        data = self.fp.read()
        try:
            container = unpack(data)
            icc, exif, xmp = (metadata_of(container, tag) for tag in (ICC, EXIF, XMP))
        except HfdError as error:
            raise SyntaxError(str(error)) from error  # Pillow's signal for a foreign or damaged file
        self._size = (container.width, container.height)
        colour = "L" if GREY in container.sections and icc is None else "RGB"
        self._mode = colour + "A" * (ALPHA in container.sections)
        self.info.update(info_of(Extras(icc=icc, exif=exif, xmp=xmp)))
        self.info.update(
            bpp=8 * len(data) / (container.width * container.height), rate=container.rate, model=container.model.hex()
        )
        self.options: dict[str, Any] = {}
        self._data = data

    def load(self) -> Any:
        """Decode, the first time. Raises :class:`OSError` if the model is missing or the file is damaged."""
        if self._data is not None:
            from hfd.api import decompress

            try:
                picture = decompress(self._data, model=self.model, **self.options)
            except HfdError as error:
                raise OSError(str(error)) from error
            self._data = None
            if self.fp and self._exclusive_fp:
                self.fp.close()
            self.fp = io.BytesIO(picture.tobytes())
            self._size = picture.size
            self.tile = [ImageFile._Tile("raw", (0, 0, *picture.size), 0, self.mode)]
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Override Pillow's seek in the file, which holds no raw pixels."""


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, stream: IO[bytes], filename: str | bytes) -> None:  # noqa: ARG001
    from hfd.codec.encode import Target, encode
    from hfd.codec.engines import engine_named
    from hfd.codec.library import find_models
    from hfd.codec.picture.content import picture_of_image
    from hfd.codec.sampling_options import SamplingOptions

    settings = image.encoderinfo
    model, exif = settings.get("model"), settings.get("exif")
    exif = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    try:
        target = Target(settings.get("quality"), settings.get("bpp"), settings.get("num_bytes"))
        icc, xmp = settings.get("icc_profile") or None, settings.get("xmp") or None
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        picture = picture_of_image(image, icc=icc, exif=exif or None, xmp=xmp)
        for note in picture.notes:
            warnings.warn(f"image: {note.text}", PictureWarning, stacklevel=3)
        options = SamplingOptions(**{one.name: settings.get(one.name) for one in fields(SamplingOptions)})
        engine = engine_named(settings.get("engine") or "auto")
        models = find_models(None if model is None else os.fspath(model))
        refine_steps = settings.get("refine") or 0
        data = encode(picture, target, models, options, engine=engine, refine_steps=refine_steps).data
    except HfdError as error:
        raise OSError(str(error)) from error
    stream.write(data)


def register() -> None:
    """Register the format with Pillow; importing this module does it."""
    Image.register_open(FORMAT, HfdImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".hfd")
    Image.register_mime(FORMAT, "image/x-hfd")


register()
