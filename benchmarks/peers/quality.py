"""``quality.py PICTURES.npz PSNR``: what the peers' JPEG encoders need for that PSNR. Run by the peers' environment.

Prints one line of JSON: for each encoder the least quality whose mean PSNR reaches it, and the bits a picture takes.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from path import psnr


def pillow(picture: np.ndarray, quality: int) -> bytes:
    """As trame-rca does."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=quality)
    return file.getvalue()


def simple(picture: np.ndarray, quality: int) -> bytes:
    """As rendercanvas does."""
    return simplejpeg.encode_jpeg(picture, quality=quality, colorspace="RGB", colorsubsampling="444", fastdct=True)


def needed(encode: Callable[[np.ndarray, int], bytes], pictures: np.ndarray, wanted: float) -> dict[str, float]:
    """The least quality that reaches ``wanted``; the best there is (99) where none does."""
    low, high = 1, 99
    while low < high:
        middle = (low + high) // 2
        if measured(encode, pictures, middle)[0] >= wanted:
            high = middle
        else:
            low = middle + 1
    reached, bits = measured(encode, pictures, low)
    return {"quality": low, "psnr_db": round(reached, 2), "kilobits_per_frame": round(bits / 1000, 1)}


def measured(encode: Callable[[np.ndarray, int], bytes], pictures: np.ndarray, quality: int) -> tuple[float, float]:
    """Mean PSNR and mean bits."""
    coded = [encode(picture, quality) for picture in pictures]
    decoded = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in coded]
    return (
        float(np.mean([psnr(one, other) for one, other in zip(pictures, decoded, strict=True)])),
        float(np.mean([len(data) * 8 for data in coded])),
    )


if __name__ == "__main__":
    found = np.load(sys.argv[1])["pictures"]
    target = float(sys.argv[2])
    print(json.dumps({"pillow": needed(pillow, found, target), "simplejpeg": needed(simple, found, target)}))
