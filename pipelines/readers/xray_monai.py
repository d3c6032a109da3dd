"""The project's X-ray reader where MONAI expects one: ``LoadImaged`` with ``reader=XrayReader(size)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys

from pipelines.readers.xray import Xray, read_xray_reduced


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
