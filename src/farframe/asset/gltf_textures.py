"""Textures and images of a glTF file: which the materials need, read by their heads first, decoded in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from farframe.asset import gltf_schema as schema
from farframe.asset.gltf_reading import Reading, Step, clean_name, shown
from farframe.asset.gltf_source import corrupt
from farframe.asset.images import EncodedImage
from farframe.asset.model import Texture, Wrap

_WRAPS: dict[int, Wrap] = {10497: "repeat", 33648: "mirror", 33071: "clamp"}


@dataclass(slots=True)
class _Textures:
    """The model's textures in the making: which of the file's images they need, and what is to be made of them.

    ``plain``: texture and image. ``baked``: textures, images, and what makes the ones' pixels of the others'.
    """

    made: list[Texture] = field(default_factory=list)
    places: dict[tuple[int, bool], int] = field(default_factory=dict)
    places_of_baked: dict[Hashable, tuple[int, ...]] = field(default_factory=dict)
    images: dict[int, EncodedImage] = field(default_factory=dict)
    plain: list[tuple[int, int]] = field(default_factory=list)
    baked: list[tuple[tuple[int, ...], list[int], Callable[..., tuple[NDArray[np.uint8], ...]]]] = field(
        default_factory=list
    )


class TextureReader(Step):
    """Collects the textures that materials ask for; :meth:`finish` decodes them, all at once."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._textures = _Textures()

    def texture(self, info: schema.TextureInfo, srgb: bool, where: str) -> int | None:
        """The model's texture for a reference (named ``where`` in errors), or ``None`` if it is left out."""
        wanted = self._textures
        key = (info.index, srgb)
        if key not in wanted.places:
            image = self._image_of(info.index, where)
            if image is None:
                return None
            wanted.places[key] = len(wanted.made)
            wanted.plain.append((len(wanted.made), image))
            wanted.made.append(self._texture_without_pixels(info.index, srgb))
        return wanted.places[key]

    def baked(
        self,
        key: Hashable,
        infos: list[schema.TextureInfo],
        results: tuple[bool, ...],
        make: Callable[..., tuple[NDArray[np.uint8], ...]],
        where: str,
    ) -> tuple[int, ...] | None:
        """Textures that are made of others' pixels: one for each of ``results`` (sRGB or not), read as the first of
        ``infos`` is. ``make`` gets the pixels of all of ``infos``. ``None`` if one of those is left out."""
        wanted = self._textures
        if key not in wanted.places_of_baked:
            images = [image for info in infos if (image := self._image_of(info.index, where)) is not None]
            if len(images) < len(infos):
                return None
            width = max(wanted.images[image].width for image in images)
            height = max(wanted.images[image].height for image in images)
            places = tuple(range(len(wanted.made), len(wanted.made) + len(results)))
            for srgb in results:
                self._budget.take_image(width, height, f"A texture of {where}")
                wanted.made.append(self._texture_without_pixels(infos[0].index, srgb))
            wanted.baked.append((places, images, make))
            wanted.places_of_baked[key] = places
        return wanted.places_of_baked[key]

    def finish(self) -> list[Texture]:
        """All textures that were asked for, with their pixels."""
        wanted = self._textures
        pixels = self._decode_images(wanted.images)
        for place, image in wanted.plain:
            wanted.made[place].pixels = pixels[image]
        for places, images, make in wanted.baked:
            for place, made in zip(places, make(*[pixels[image] for image in images]), strict=True):
                wanted.made[place].pixels = made
            self._budget.check_time()
        return wanted.made

    def _image_of(self, index: int, where: str) -> int | None:
        """The image of a texture, its head read, or ``None`` with a warning if only an unknown extension names one."""
        if index >= len(self._document.textures):
            corrupt(f"{where} names $.textures[{index}], which does not exist.")
        texture = self._document.textures[index]
        source = texture.source
        for extension in (texture.extensions.KHR_texture_basisu, texture.extensions.EXT_texture_webp):
            if extension is not None and extension.source is not None:
                source = extension.source
                break
        if source is None:
            self._warn("A texture in a format other than PNG, JPEG, WebP or KTX2 is left out.")
            return None
        if source >= len(self._document.images):
            corrupt(f"$.textures[{index}] names $.images[{source}], which does not exist.")
        if source not in self._textures.images:
            self._textures.images[source] = self._encoded_image(source)
        return source

    def _texture_without_pixels(self, index: int, srgb: bool) -> Texture:
        described = self._document.textures[index]
        sampler = schema.Sampler()
        if described.sampler is not None:
            if described.sampler >= len(self._document.samplers):
                corrupt(f"$.textures[{index}].sampler is {described.sampler}, which does not exist.")
            sampler = self._document.samplers[described.sampler]
        return Texture(
            pixels=np.empty((0, 0, 4), dtype=np.uint8),
            srgb=srgb,
            wrap_u=_WRAPS[sampler.wrap_s],
            wrap_v=_WRAPS[sampler.wrap_t],
            mag_filter="nearest" if sampler.mag_filter == 9728 else "linear",
            min_filter="nearest" if sampler.min_filter in (9728, 9984, 9986) else "linear",
            mipmaps=sampler.min_filter not in (9728, 9729),
            name=clean_name(described.name),
        )

    def _encoded_image(self, index: int) -> EncodedImage:
        where = f"$.images[{index}]"
        image = self._document.images[index]
        if image.buffer_view is not None:
            data, _ = self._source.view(image.buffer_view, where)
        elif image.uri is not None:
            data = self._source.uri_bytes(image.uri, where)
        else:
            corrupt(f"{where} has neither a uri nor a buffer view.")
        self._budget.take_bytes(len(data), f"image {index}")
        return EncodedImage(
            data.tobytes(), f"Image {index} ({shown(image.name or image.uri or 'embedded')})", self._budget
        )

    def _decode_images(self, images: dict[int, EncodedImage]) -> dict[int, NDArray[np.uint8]]:
        """Pixels by image index, decoded in several threads."""
        pixels: dict[int, NDArray[np.uint8]] = {}
        with ThreadPoolExecutor(max_workers=min(len(images), os.cpu_count() or 1) or 1) as pool:
            try:
                decoded = pool.map(EncodedImage.decode, images.values())
                for done, (index, result) in enumerate(zip(images, decoded, strict=True), start=1):
                    pixels[index] = result
                    self._progress("textures", 0.05 + 0.35 * done / len(images))
                    self._budget.check_time()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return pixels
