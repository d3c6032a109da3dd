"""The project's X-ray reader where MONAI expects one: as the first transform, and as a reader of ``LoadImaged``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, MetaKeys

from pipelines.readers.xray import Xray, read_xray_reduced


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


class XrayReader(ImageReader):
    """Read DICOM, PNG and JPEG as :func:`~pipelines.readers.xray.read_xray_reduced` does.

    Unlike MONAI's own readers it gives (rows, columns), upright, and nothing of the header.

    Args:
        size: rows and columns of what is read.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def verify_suffix(self, filename: Any) -> bool:
        """Return True: the content decides what a file is."""
        return True

    def read(self, data: Any, **kwargs: Any) -> Xray:
        """Return the X-ray of one file.

        Raises:
            UserError: see :func:`~pipelines.readers.xray.read_xray_reduced`.
        """
        paths = data if isinstance(data, Sequence) and not isinstance(data, str) else [data]
        return read_xray_reduced(paths[0], self.size)

    def get_data(self, img: Xray) -> tuple[np.ndarray, dict[str, Any]]:
        """Return (size, size) uint8 and the metadata that MONAI asks for."""
        meta = {MetaKeys.ORIGINAL_CHANNEL_DIM: "no_channel", MetaKeys.SPATIAL_SHAPE: img.pixels.shape}
        return img.pixels, meta
