"""Folds as processes of their own, side by side on a share of the cores each, and stopped together."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Protocol

from pipelines.devices import usable_cores
from pipelines.errors import UserError

logger = logging.getLogger(__name__)
_PAUSE = 0.2  # seconds between looks at what runs


class Running(Protocol):
    """What is asked of a fold that runs."""

    error: str

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""

    def stop(self) -> None:
        """Ask it to end, keeping what is complete."""

    def wait(self) -> None:
        """Wait for the end."""

    def kill(self) -> None:
        """End it at once."""


class FoldProcess:
    """``python -m pipelines.crossval.fold`` on one job.

    It is in a session of its own, so that Ctrl-C reaches this process alone, which then stops all folds in order.

    Args:
        fold: its number, for what is shown.
        job: see :func:`pipelines.crossval.fold.run_fold`.
        threads: for its computations.
    """

    def __init__(self, fold: int, job: Mapping[str, Any], threads: int) -> None:
        self.fold, self.error = fold, ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.crossval.fold"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **thread_settings(threads)},
            start_new_session=True,
        )
        self._input: IO[str] = self._process.stdin
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        with suppress(BrokenPipeError):  # it has ended already, and says why
            self._input.write(json.dumps(job) + "\n")
            self._input.flush()

    def _listen(self) -> None:
        last: list[str] = []
        with self._process.stderr as lines:
            for line in lines:
                if line.startswith("Epoch "):
                    logger.info("Fold %d  %s", self.fold, line.rstrip())
                elif line.startswith("Error: "):
                    self.error, last = line.rstrip(), []
                elif line.strip():
                    last = [*last, line.rstrip()][-3:]
        if last and self.error:  # the error's other lines
            self.error = "\n".join([self.error, *last])
        elif last:
            self.error = last[-1]

    def poll(self) -> int | None:
        """Return the exit code once all that it said was heard, or None."""
        code = self._process.poll()
        if code is not None:
            self._listener.join(timeout=5)
            with suppress(BrokenPipeError):  # what it did not read any more
                self._input.close()
        return code

    def stop(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait for the end."""
        self._process.wait()
        self.poll()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def threads_of_each(jobs: int) -> int:
    """Return how many threads each of ``jobs`` processes has, so that together they use no more than the cores.

    ``OMP_NUM_THREADS`` of the environment is not exceeded.

    Raises:
        UserError: more jobs than cores that this process may use.
    """
    cores = usable_cores()
    if not 1 <= jobs <= cores:
        raise UserError(
            f"--jobs must be from 1 to the {cores} cores that there are, got {jobs}: folds that share a core slow each "
            "other down."
        )
    asked = os.environ.get("OMP_NUM_THREADS", "")
    share = cores // jobs
    return min(share, int(asked)) if asked.isdigit() and int(asked) > 0 else share


def thread_settings(threads: int) -> dict[str, str]:
    """Return the environment of a process that computes with ``threads`` threads, which sleep while they wait."""
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


def run_side_by_side(
    folds: Sequence[int], jobs: int, start: Callable[[int], Running], ended: Callable[[int], None]
) -> None:
    """Run folds, at most ``jobs`` at once, and call ``ended`` after each that ends well.

    Where one fails no other is started, and those that run come to their end. An interrupt stops all of them, each as a
    training is stopped; a second one ends them at once.

    Raises:
        UserError: a fold failed.
    """
    waiting, running, failed = list(folds), {}, []
    try:
        while running or (waiting and not failed):
            while waiting and not failed and len(running) < jobs:
                running[waiting[0]] = start(waiting[0])
                waiting.pop(0)
            for fold, process in [(f, p) for f, p in running.items() if p.poll() is not None]:
                del running[fold]
                if process.poll() == 0:
                    ended(fold)
                else:
                    failed.append(f"Fold {fold} failed: {_reason(process)}")
                    logger.warning(failed[-1])
            time.sleep(_PAUSE if running else 0)
    except BaseException:
        _stop(running.values())
        raise
    if failed:
        raise UserError("\n".join(failed[0].splitlines()[:3]))


def _reason(process: Running) -> str:
    code = process.poll()
    if code is not None and code < 0:
        return f"its process was ended by signal {-code}, as the system does where memory is short"
    return process.error.removeprefix("Error: ") or f"its process ended with code {code}"


def _stop(running: Iterable[Running]) -> None:
    running = list(running)
    if running:
        logger.warning("Stopping: what is complete is kept.")
    for process in running:
        process.stop()
    try:
        for process in running:
            process.wait()
    except KeyboardInterrupt:
        for process in running:
            process.kill()
        raise
