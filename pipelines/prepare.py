"""A data set's X-rays as networks take them: read once, kept in one file that opens at once."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.devices import usable_cores
from pipelines.errors import UserError
from pipelines.files import atomic_path, sha256_file, sha256_json, write_text
from pipelines.prepared import PreparedSet
from pipelines.progress import track
from pipelines.readers.xray import ImageInput, read_xray_reduced

# Files to a chunk: what one process reads at a time, and what an interruption costs at most in each.
CHUNK = 64
_HASHING = 4  # threads
# To be raised when the same files and settings would give other content.
_FORMAT = 1
_COLUMNS = [
    *("case", "row", "rows", "columns", "view", "age", "sex", "spacing_row", "spacing_column", "spacing_tag"),
    "warnings",
]


def prepare(
    items: Sequence[ImageInput],
    cache_dir: str | os.PathLike[str],
    size: int = 224,
    workers: int | None = None,
    dataset_dir: str | os.PathLike[str] | None = None,
) -> PreparedSet:
    """Read each X-ray once, as ``read_xray_reduced`` does, and keep all of them in a folder in ``cache_dir``.

    The folder's name follows from what is in it: the cases, their files' names and the SHA-256 of their bytes, the
    size asked for and the versions of the decoders. A finished one is opened at once: files whose sizes and times of
    change are those of before are taken to be the same, all others are hashed (0.1 ms a file in memory, against 2 to 4
    of preparing it), so that a copied or touched data set is not prepared again. An interrupted one goes on
    where it stopped, even after SIGKILL: what is listed as read has reached the disk before. A second process
    that prepares the same waits for the first. Memory does not grow with the number of files. A file that
    cannot be read is no error; it stands in ``failures``.

    Args:
        items: the X-rays, of ``find_images`` or a data set's table; each case once.
        cache_dir: made where it is missing. An X-ray takes ``size * size`` bytes.
        size: rows and columns of the prepared images.
        workers: processes; as many as this process may use by default. 1 starts none. More than one needs the
            guard ``if __name__ == "__main__":`` in the script that is run.
        dataset_dir: the data set's folder, into which nothing is written.

    Raises:
        UserError: ``cache_dir`` lies in the data set, cannot be written or is too small; there is no item, or
            a case twice; a process ended unexpectedly.
    """
    items, cache_dir = list(items), Path(cache_dir).absolute()
    _check(items, cache_dir, size, dataset_dir)
    try:
        folder = _folder(cache_dir, items, size)
        with _locked(folder / "lock"):
            if not (folder / "table.csv").is_file():
                _fill(folder, items, size, workers)
    except OSError as error:
        raise UserError(
            f"expected to write to {cache_dir} ({error.strerror}); choose another cache_dir"
        ) from error
    return PreparedSet(folder)


def _check(items: list[ImageInput], cache_dir: Path, size: int, dataset_dir: Any) -> None:
    if not items or size < 1:
        raise UserError(f"expected X-rays to prepare and a size of at least 1, got {len(items)} and {size}")
    cases = [item.case for item in items]
    if len(set(cases)) < len(cases):
        twice = Counter(cases).most_common(1)[0][0]
        raise UserError(f"expected each case once, got {twice!r} several times; check the data set's table")
    sources = {item.path.parent for item in items} | ({Path(dataset_dir)} if dataset_dir else set())
    target = Path(os.path.realpath(cache_dir))
    for source in sorted(Path(os.path.realpath(source)) for source in sources):
        if target == source or source in target.parents:
            raise UserError(
                f"expected a cache_dir outside the data set, got {cache_dir}, which lies in {source}; choose another"
            )


def _folder(cache_dir: Path, items: list[ImageInput], size: int) -> Path:
    """Return the folder for the content of these files, made where it is missing."""
    seen = _key([_signature(item) for item in items], size)
    for mark in cache_dir.glob(f"xrays-{size}-*/seen/{seen}"):
        return mark.parents[1]
    with ThreadPoolExecutor(_HASHING) as pool:  # hashing needs no lock
        chunks = _chunks(items)
        digests = pool.map(_digests, chunks)
        content = [
            digest
            for _, some in zip(track(chunks, "Hashing X-rays"), digests, strict=True)
            for digest in some
        ]
    folder = cache_dir / f"xrays-{size}-{_key(content, size)[:16]}"
    (folder / "seen").mkdir(parents=True, exist_ok=True)
    (folder / "seen" / seen).touch()
    return folder


def _key(files: list[list[Any]], size: int) -> str:
    import PIL
    import pydicom

    settings = {"format": _FORMAT, "size": size, "pillow": PIL.__version__, "pydicom": pydicom.__version__}
    return sha256_json([settings, files])


def _signature(item: ImageInput) -> list[Any]:
    try:
        status = os.stat(item.path)
        return [item.case, item.path.name, status.st_size, status.st_mtime_ns, item.problem]
    except OSError:
        return [item.case, item.path.name, None, None, item.problem]


def _digests(items: list[ImageInput]) -> list[list[Any]]:
    return [[item.case, item.path.name, _sha256(item.path), item.problem] for item in items]


def _sha256(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _chunks(items: list[ImageInput]) -> list[list[ImageInput]]:
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when this process ends, however it ends."""
    import fcntl

    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fill(folder: Path, items: list[ImageInput], size: int, workers: int | None) -> None:
    chunks = folder / "chunks"
    chunks.mkdir(exist_ok=True)
    _make_pixels(folder / "pixels.npy", (len(items), size, size))
    starts = [start for start in range(0, len(items), CHUNK) if not _chunk_path(folder, start).is_file()]
    jobs = [(folder, start, items[start : start + CHUNK], size) for start in starts]
    _run(jobs, min(workers or usable_cores(), len(jobs)))
    lines = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(chunks.glob("[0-9]*.json"))]
    entries = [entry for chunk in lines for entry in chunk]
    _write_csv(folder / "failures.csv", ["case", "reason"], [entry for entry in entries if "reason" in entry])
    # Last, because it says that all the rest is there.
    _write_csv(folder / "table.csv", _COLUMNS, [entry for entry in entries if "reason" not in entry])
    shutil.rmtree(chunks)


def _make_pixels(path: Path, shape: tuple[int, int, int]) -> None:
    if path.is_file():
        return
    free, needed = shutil.disk_usage(path.parent).free, int(np.prod(shape, dtype=float))
    if free < needed:
        raise UserError(
            f"expected {needed / 1e9:.2f} GB free for the prepared X-rays, got {free / 1e9:.2f} GB at {path.parent}; "
            "choose another cache_dir"
        )
    with atomic_path(path) as temporary:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape).flush()


def _run(jobs: list[tuple[Any, ...]], workers: int) -> None:
    if workers <= 1:
        for job in track(jobs, "Preparing X-rays"):
            _prepare_chunk(*job)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent)
    try:
        futures: list[Future[None]] = [pool.submit(_prepare_chunk, *job) for job in jobs]
        for future in track(futures, "Preparing X-rays"):
            future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that read X-rays ended unexpectedly (no memory left?); run again, it goes on where it "
            "stopped, or with one process to see the file"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it ends, even by SIGKILL: this process would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _prepare_chunk(folder: Path, start: int, items: list[ImageInput], size: int) -> None:
    """Read some X-rays into their rows of ``pixels.npy``, then list them: an entry that is listed is whole."""
    block = np.zeros((len(items), size, size), np.uint8)
    entries = [_read_into(item, block[number], start + number) for number, item in enumerate(items)]
    pixels = folder / "pixels.npy"
    offset = np.load(pixels, mmap_mode="r").offset
    # Written, not mapped: a full disk is an error so, and a signal that ends the process when mapped.
    with open(pixels, "r+b") as file:
        file.seek(offset + start * size * size)
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
    write_text(_chunk_path(folder, start), json.dumps(entries))


def _read_into(item: ImageInput, target: np.ndarray, row: int) -> dict[str, Any]:
    try:
        if item.problem:
            raise UserError(f"{item.path.name}: {item.problem}")
        xray = read_xray_reduced(item.path, len(target))
    except UserError as error:
        return {"case": item.case, "reason": " ".join(str(error).split())}
    except Exception as error:
        # One file of thousands must not cost the others; the type alone, as a message may quote the header.
        return {"case": item.case, "reason": f"{item.path.name}: cannot be read ({type(error).__name__})"}
    target[:] = xray.pixels
    fields = dict(vars(xray.header))
    spacing = fields.pop("spacing") or (None, None)
    fields["warnings"] = "; ".join(fields["warnings"])
    return {"case": item.case, "row": row, "spacing_row": spacing[0], "spacing_column": spacing[1], **fields}


def _chunk_path(folder: Path, start: int) -> Path:
    return folder / "chunks" / f"{start:010d}.json"


def _write_csv(path: Path, columns: list[str], entries: list[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([entry[column] for column in columns] for entry in entries)
