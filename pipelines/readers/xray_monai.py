"""The project's X-ray reader where MONAI expects one: as the first transform, and as a reader of ``LoadImaged``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey

from pipelines.readers.xray import read_xray_reduced


class LoadXrayd(MapTransform):
    """Read DICOM, PNG and JPEG as :func:`~pipelines.readers.xray.read_xray_reduced` does, and in no other way.

    MONAI's ``LoadImaged`` tries its own readers where the one that it was given refuses a file: an image of another
    modality would then be taken after all, with its axes swapped.

    Args:
        keys: keys of paths; each becomes (1, size, size) uint8, rows first, more is brighter.
        size: rows and columns of what is read.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(self, keys: KeysCollection, size: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with images for paths.

        Raises:
            UserError: see :func:`~pipelines.readers.xray.read_xray_reduced`.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            pixels = torch.from_numpy(read_xray_reduced(result[key], self.size).pixels)[None]
            result[key] = MetaTensor(pixels, meta={ImageMetaKey.FILENAME_OR_OBJ: str(result[key])})
        return result
