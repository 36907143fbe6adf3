"""Rate and distortion of stage 1 over the rate ids, for each model, on a folder of pictures.

    python -m benchmarks.rates PICTURES [--models desk-012,desk-025] [--rates 96,112,128,144]

Bits are those of the payloads, over all pixels; PSNR in dB is the mean over pictures, of x_hat rounded to 8 bits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hfd.autoencoder.coding import LatentCoder
from hfd.autoencoder.model import Elic, pad_to_stride
from hfd.autoencoder.rates import step_units
from hfd.autoencoder.weights import latent_coder, read_autoencoder
from hfd.codec.tensors import picture_to_tensor, tensor_to_picture
from hfd.image.load import RgbArray
from hfd.io.model_folders import find_model


def measure(model: Elic, coder: LatentCoder, picture: RgbArray, rate: int) -> tuple[int, float]:
    """Bytes of the payload and PSNR of the reconstruction."""
    coded, y_hat = coder.encode(pad_to_stride(picture_to_tensor(picture)).numpy(), rate)
    height, width = picture.shape[:2]
    x_hat = tensor_to_picture(model.reconstruct(torch.from_numpy(y_hat))[..., :height, :width])
    mse = np.square(x_hat.astype(np.float64) - picture).mean()
    return len(coded.payload), float(10 * np.log10(255**2 / mse))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--models", default="desk-012,desk-025")
    parser.add_argument("--rates", default="96,104,112,120,128,136,144,152,160")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in arguments.pictures.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    pictures = [np.array(Image.open(path).convert("RGB")) for path in paths]
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    print(f"{len(pictures)} pictures\nmodel      rate   step     bpp   PSNR dB")
    for name in arguments.models.split(","):
        autoencoder = read_autoencoder(find_model(name) / "autoencoder")
        coder = latent_coder(autoencoder.model, autoencoder.tables)
        for rate in map(int, arguments.rates.split(",")):
            found = [measure(autoencoder.model, coder, picture, rate) for picture in pictures]
            bpp, psnr = 8 * sum(size for size, _ in found) / pixels, np.mean([db for _, db in found])
            print(f"{name:10} {rate:4} {step_units(rate) / 1024:7.3f} {bpp:7.4f} {psnr:8.3f}", flush=True)


if __name__ == "__main__":
    main()
