"""How fast ``prepare`` reads JPEG Baseline X-rays, against a plain loop and against the decoding alone."""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.prepare import CHUNK, prepare
from pipelines.progress import track
from pipelines.readers.xray import ImageInput, find_images
from pipelines.readers.xray_pixels import OVERSAMPLING

SIZE = 224
# Files to a turn: every call of `prepare` costs a few milliseconds however many files it reads.
_TURN = 5 * CHUNK


def benchmark_prepare(folder: str | os.PathLike[str], rounds: int = 3) -> dict[str, Any]:
    """Compare three ways through the same files, on one core and in turns, so that a busy machine hits all alike.

    - ``plain``: pydicom, full decode, scikit-image's anti-aliased resize to 224 x 224, file after file.
    - ``decode``: Pillow alone, from the JPEG stream in memory to the reduced scale that ``prepare`` uses.
    - ``prepare``: ``pipelines.prepare.prepare`` with one process, all of it, onto the disk.

    Args:
        folder: chest X-rays as DICOM with JPEG Baseline. 320 of them are one turn.
        rounds: how often to go through the folder.

    Returns:
        ``files``, ``rounds``; ``cpu_ms`` and ``wall_ms``, the median turn's milliseconds a file by way;
        ``plain_over_prepare`` and ``prepare_over_decode``, medians of the turns' ratios in CPU time, and the same
        with ``_wall``.

    Raises:
        UserError: the folder holds no such files.
    """
    items = find_images([folder])
    turns = [items[start : start + _TURN] for start in range(0, len(items), _TURN)] * rounds
    ways: dict[str, list[tuple[float, float]]] = {"plain": [], "decode": [], "prepare": []}
    _decode([_jpeg(items[0].path)])
    _plain(items[:1])  # what is imported at first use is imported now
    for turn in track(turns, "Measuring"):
        frames = [_jpeg(item.path) for item in turn]  # and all files are in memory from here on
        ways["decode"].append(_timed(partial(_decode, frames), len(turn)))
        with tempfile.TemporaryDirectory() as cache:
            ways["prepare"].append(_timed(partial(prepare, turn, cache, SIZE, workers=1), len(turn)))
        ways["plain"].append(_timed(partial(_plain, turn), len(turn)))
    result: dict[str, Any] = {"files": len(items), "rounds": rounds}
    for column, name in enumerate(("cpu", "wall")):
        times = {way: [pair[column] for pair in pairs] for way, pairs in ways.items()}
        suffix = "" if name == "cpu" else "_wall"
        result[f"{name}_ms"] = {way: round(statistics.median(values), 3) for way, values in times.items()}
        result[f"plain_over_prepare{suffix}"] = _median_ratio(times["plain"], times["prepare"])
        result[f"prepare_over_decode{suffix}"] = _median_ratio(times["prepare"], times["decode"])
    return result


def _timed(work: Callable[[], Any], files: int) -> tuple[float, float]:
    """Return CPU and wall time in milliseconds a file."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return 1000 * cpu / files, 1000 * wall / files


def _median_ratio(above: list[float], below: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 2)


def _jpeg(path: Path) -> bytes:
    import pydicom
    from pydicom.encaps import get_frame
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import JPEGBaseline8Bit

    try:
        dataset = pydicom.dcmread(path)
        known = dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    except InvalidDicomError:
        known = False
    if not known:
        raise UserError(f"expected DICOM with JPEG Baseline to measure, got another kind: {path.name}")
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def _decode(frames: list[bytes]) -> None:
    from PIL import Image

    for frame in frames:
        image = Image.open(io.BytesIO(frame), formats=["JPEG"])
        image.draft(None, (OVERSAMPLING * SIZE, OVERSAMPLING * SIZE))
        image.load()


def _plain(items: list[ImageInput]) -> None:
    import pydicom
    from skimage.transform import resize

    for item in items:
        resize(pydicom.dcmread(item.path).pixel_array, (SIZE, SIZE), anti_aliasing=True)
