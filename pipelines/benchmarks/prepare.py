"""How fast ``prepare`` reads JPEG Baseline X-rays, against a plain loop and against the decoding alone."""

from __future__ import annotations

import io
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.benchmarks.report import median_ratio
from pipelines.errors import UserError
from pipelines.prepare import CHUNK, prepare
from pipelines.progress import track
from pipelines.readers.xray import ImageInput, find_images, read_xray_reduced
from pipelines.readers.xray_pixels import OVERSAMPLING

SIZE = 224
# Files to a turn: every call of `prepare` costs a few milliseconds however many files it reads.
_TURN = 5 * CHUNK


def benchmark_prepare(
    folder: str | os.PathLike[str], rounds: int = 3, cases: int | None = None
) -> dict[str, Any]:
    """Compare three ways through the same files, on one core and in turns, so that a busy machine hits all alike.

    - ``plain``: pydicom, full decode, scikit-image's anti-aliased resize to 224 x 224, file after file.
    - ``decode``: Pillow alone, from the JPEG stream in memory to the reduced scale that ``prepare`` uses.
    - ``prepare``: ``pipelines.prepare.prepare`` with one process, all of it, onto the disk.

    Args:
        folder: chest X-rays as DICOM with JPEG Baseline. Turns are of one size, 320 at most.
        cases: how many files to take at most; None is all.
        rounds: how often to go through the folder.

    Returns:
        ``files``, ``rounds``; ``cpu_ms`` and ``wall_ms``, the median turn's milliseconds a file by way;
        ``plain_over_prepare`` and ``prepare_over_decode``, medians of the turns' ratios in CPU time, and the same
        with ``_wall``.

    Raises:
        UserError: the folder holds no such files.
    """
    items = [item for item in find_images([folder]) if not item.problem][:cases]
    if not items:
        raise UserError(f"expected chest X-rays as DICOM files to measure, found none in {folder}")
    turns = _turns(items) * rounds
    ways: dict[str, list[tuple[float, float]]] = {"plain": [], "decode": [], "prepare": []}
    _require_usable(items)  # and what is imported at first use is imported now
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
        result[f"{name}_ms"] = {way: statistics.median(values) for way, values in times.items()}
        result[f"plain_over_prepare{suffix}"] = median_ratio(times["plain"], times["prepare"])
        result[f"prepare_over_decode{suffix}"] = median_ratio(times["prepare"], times["decode"])
    return result


def _turns(items: list[ImageInput]) -> list[list[ImageInput]]:
    """Return ``items`` in as few parts as there can be, of one size to within a file."""
    count = math.ceil(len(items) / _TURN)
    return [items[number::count] for number in range(count)]


def _timed(work: Callable[[], Any], files: int) -> tuple[float, float]:
    """Return CPU and wall time in milliseconds a file."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return 1000 * cpu / files, 1000 * wall / files


def _jpeg(path: Path) -> bytes:
    """Return the JPEG stream of a file."""
    import pydicom
    from pydicom.encaps import get_frame
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import JPEGBaseline8Bit

    try:
        with _unquoted():
            dataset = pydicom.dcmread(path)
            known = dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
            frames = [get_frame(dataset.PixelData, 0, number_of_frames=1)] if known else []
    except (InvalidDicomError, AttributeError):
        frames = []
    if not frames:
        raise UserError(f"expected DICOM with JPEG Baseline to measure, got another kind: {path.name}")
    return frames[0]


def _require_usable(items: list[ImageInput]) -> None:
    """Refuse files that one of the three ways cannot read, or would leave out."""
    for item in track(items, "Looking at the files"):
        try:
            read_xray_reduced(item.path, SIZE)
            frame = [_jpeg(item.path)]
            _decode(frame)
            _plain([item])
        except UserError as error:
            raise UserError(f"{error}\nLeave it out of the folder that is measured.") from error
        except Exception as error:  # pydicom and Pillow have many, some of which quote the header
            raise UserError(
                f"expected X-rays that pydicom and Pillow can read, and {item.path.name} is none "
                f"({type(error).__name__}).\nLeave it out of the folder that is measured."
            ) from None


@contextmanager
def _unquoted() -> Iterator[None]:
    """Without pydicom's warnings, which quote values of the header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode(frames: list[bytes]) -> None:
    from PIL import Image

    for frame in frames:
        image = Image.open(io.BytesIO(frame), formats=["JPEG"])
        image.draft(None, (OVERSAMPLING * SIZE, OVERSAMPLING * SIZE))
        image.load()


def _plain(items: list[ImageInput]) -> None:
    import pydicom
    from skimage.transform import resize

    with _unquoted():
        for item in items:
            resize(pydicom.dcmread(item.path).pixel_array, (SIZE, SIZE), anti_aliasing=True)
