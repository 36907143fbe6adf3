"""Photographs to ``.hfd`` bytes and back, with a model folder.

A model folder holds ``autoencoder/`` and, for stage 2, ``decoder/``: each a ``config.json`` beside a
``weights.safetensors``. A workspace is accepted too: its ``latest.json`` names the newest model.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.autoencoder.coding import LatentCoder
from hfd.autoencoder.model import STRIDE
from hfd.autoencoder.transforms import PixelRows
from hfd.autoencoder.weights import Autoencoder, read_autoencoder
from hfd.codec.container import LATENTS, MODEL_BYTES, Container, pack, unpack
from hfd.diffusion.decoder import DEFAULT_STEPS, ScoreDecoder, read_decoder
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.window import Tile, Window
from hfd.errors import BitstreamError, DataError
from hfd.images import RgbArray
from hfd.storage import Folder
from hfd.tiling import Reach
from hfd.weights import fingerprint_of

DEFAULT_MAX_PIXELS = 64_000_000
"""Pictures above this are refused before any memory is taken; decoding works on whole images."""

MODELS = Path(__file__).resolve().parent.parent / "models"
"""The models in the package, each in a folder of its name."""

_NO_MODEL = "got no model there, expected a folder with autoencoder/config.json, or a workspace"


@dataclass(frozen=True)
class Compressed:
    """``data``: the finished file; ``bpp``: 8 x its bytes over the pixels; ``bpp_est``: the likelihood estimate."""

    data: bytes
    bpp: float
    bpp_est: float


class Codec:
    """A loaded model: compresses, reconstructs (stage 1) and samples (stage 2). Not for use by several threads."""

    def __init__(self, autoencoder: Autoencoder, decoder: ScoreDecoder | None) -> None:
        self.autoencoder = autoencoder
        self.decoder = decoder
        self._coder = LatentCoder(autoencoder.model, autoencoder.tables)

    @classmethod
    def load(cls, folder: Folder, *, device: str = "cpu") -> Codec:
        """Load a model folder or workspace. Stage 2 goes to ``device``; the entropy-coded stage 1 stays on the CPU."""
        folder = resolve_model(folder)
        autoencoder = read_autoencoder(folder / "autoencoder")
        decoder = read_decoder(folder / "decoder") if folder.exists("decoder/config.json") else None
        if decoder is not None and decoder.config["autoencoder"] != autoencoder.fingerprint:
            raise DataError(
                f"{folder.uri}: its decoder was trained on another autoencoder. Make or fetch the model again"
            )
        if decoder is not None:
            decoder.net.to(device)
        return cls(autoencoder, decoder)

    @property
    def model(self) -> bytes:
        """What a file names its autoencoder by."""
        return bytes.fromhex(self.autoencoder.fingerprint)[:MODEL_BYTES]

    @property
    def default_sampling(self) -> Sampling:
        """The decoder's own setting: as many steps as it was fine-tuned for."""
        return Sampling(steps=DEFAULT_STEPS if self.decoder is None else self.decoder.default_steps)

    @torch.no_grad()
    def compress(self, x: RgbArray, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Compressed:
        """Compress a picture, uint8 (H, W, 3) sRGB."""
        height, width = x.shape[:2]
        _check_size(width, height, max_pixels)
        padded = (height + -height % STRIDE, width + -width % STRIDE)
        coded, _ = self._coder.encode_rows(padded_rows(x), *padded)
        data = pack(Container(width, height, self.model, coded.checksum, {LATENTS: coded.payload}))
        return Compressed(data, 8 * len(data) / (width * height), coded.bits_est / (width * height))

    @torch.no_grad()
    def reconstruct(self, data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> RgbArray:
        """The stage-1 reconstruction x_hat of a file, uint8 (H, W, 3).

        Raises :class:`BitstreamError` for a file that is damaged, foreign, or made by another model.
        """
        container = unpack(data)
        if container.model != self.model:
            raise BitstreamError(
                f"model: got a file made by {container.model.hex()}, expected {self.model.hex()}. "
                "Give the model that made it with --model"
            )
        width, height = container.width, container.height
        _check_size(width, height, max_pixels)
        padded = (height + -height % STRIDE, width + -width % STRIDE)
        y_hat = self._coder.decode(
            container.sections[LATENTS], checksum=container.checksum, height=padded[0], width=padded[1]
        )
        x_hat = self.autoencoder.model.reconstruct(y_hat)
        return tensor_to_picture(x_hat[..., :height, :width])

    def sample(
        self,
        x_hat: RgbArray,
        settings: Sampling,
        *,
        seed: int,
        precision: str = "auto",
        on_step: Callable[[int], None] | None = None,
        tiles: Sequence[Tile] = (),
    ) -> RgbArray:
        """The stage-2 sample for a reconstruction, uint8 (H, W, 3) to uint8 (H, W, 3).

        ``tiles``: of a unit of `Spread.STEPS`, by which the network sees the picture at every step.
        """
        decoder, cond = self._decoder(), self._cond([x_hat])
        sample = decoder.sample(cond, settings, seeds=[seed], precision=precision, on_step=on_step, tiles=tiles)
        return tensor_to_picture(sample)

    def sample_batch(
        self, x_hats: Sequence[RgbArray], settings: Sampling, *, seeds: Sequence[int], precision: str = "auto"
    ) -> list[RgbArray]:
        """The samples for reconstructions of one size, at once; :meth:`sample` of each up to rounding."""
        sample = self._decoder().sample(self._cond(x_hats), settings, seeds=seeds, precision=precision)
        return [tensor_to_picture(sample[i : i + 1]) for i in range(len(x_hats))]

    def sample_tile(
        self,
        x_hat: RgbArray,
        settings: Sampling,
        *,
        tile: Tile,
        size: tuple[int, int],
        seed: int,
        precision: str = "auto",
    ) -> RgbArray:
        """``tile.core`` of the sample for a picture of ``size`` (height, width), from ``tile.window`` of its x_hat.

        The tile is one of a plan with this codec's :meth:`reach` (:func:`hfd.tiling.plan_units`).
        """
        window = Window(tile.window, *size)
        cond = self._cond([x_hat])
        sample = self._decoder().sample(cond, settings, seeds=[seed], precision=precision, window=window)
        return tensor_to_picture(tile.core.within(tile.window).cut(sample))

    def reach(self, settings: Sampling) -> Reach:
        """How far a sample's pixel looks, for plans of tiles."""
        net = self._decoder().net
        return Reach(self._decoder().reach_px(settings), net.receptive_field_px, net.stride)

    def _decoder(self) -> ScoreDecoder:
        if self.decoder is None:
            raise DataError("model: has no decoder, expected one. Train stage 2, or ask for the reconstruction")
        return self.decoder

    def _cond(self, x_hats: Sequence[RgbArray]) -> Tensor:
        cond = torch.cat([picture_to_tensor(x_hat) for x_hat in x_hats])
        return cond.to(next(self._decoder().net.parameters()).device)


def resolve_model(folder: Folder) -> Folder:
    """The model folder that a path stands for: itself, or the newest one of a workspace."""
    if folder.exists("autoencoder/config.json"):
        return folder
    if folder.exists("latest.json"):
        try:
            latest = json.loads(folder.read("latest.json"))
        except ValueError as error:
            raise DataError(f"{folder.uri}/latest.json: not readable ({error}). Name the model's folder") from error
        if isinstance(latest, dict) and latest.get("model") is not None:
            return folder / str(latest["model"])
    raise DataError(f"{folder.uri}: {_NO_MODEL}")


def shipped_models() -> dict[str, Folder]:
    """The models in the package, by name."""
    found = sorted(path.parent.parent for path in MODELS.glob("*/autoencoder/config.json"))
    return {path.name: Folder(str(path)) for path in found}


def find_model(model: str) -> Folder:
    """The model folder of a shipped name, a folder, a workspace or an s3:// prefix. Raises :class:`DataError`."""
    shipped, folder = shipped_models(), Folder(model)
    if model in shipped:
        return shipped[model]
    if shipped and folder.is_local and not folder.exists():
        raise DataError(f"{model}: {_NO_MODEL}, or a shipped model ({', '.join(shipped)})")
    return resolve_model(folder)


def model_of_file(data: bytes) -> Folder:
    """The shipped model that made a file. Raises :class:`BitstreamError` where none did."""
    wanted, shipped = unpack(data).model, shipped_models()
    for folder in shipped.values():
        if bytes.fromhex(fingerprint_of(folder / "autoencoder"))[:MODEL_BYTES] == wanted:
            return folder
    raise BitstreamError(
        f"model: got a file made by {wanted.hex()}, expected one of the shipped models "
        f"({', '.join(shipped) or 'none'}). Give the model that made it with --model"
    )


def seed_of_file(data: bytes) -> int:
    """The default sampling seed of a file: the same file gives the same picture."""
    return zlib.crc32(data)


def picture_to_tensor(x: RgbArray) -> Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in [0, 1], channels last."""
    return torch.from_numpy(np.array(x)).permute(2, 0, 1).unsqueeze(0).float().div(255.0)


def padded_rows(x: RgbArray) -> PixelRows:
    """Rows of ``pad_to_stride(picture_to_tensor(x))``, made when they are asked for."""
    height, width = x.shape[:2]

    def rows(first: int, last: int) -> Tensor:
        part = picture_to_tensor(x[np.minimum(np.arange(first, last), height - 1)])
        return F.pad(part, (0, -width % STRIDE, 0, 0), mode="replicate")

    return rows


def tensor_to_picture(x: Tensor) -> RgbArray:
    """float (1, 3, H, W) in [0, 1] -> uint8 (H, W, 3)."""
    picture: RgbArray = (x[0].clamp(0.0, 1.0) * 255.0).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    return picture


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DataError(f"size: got {width} x {height}, expected at most {max_pixels} pixels", reason="too-large")
