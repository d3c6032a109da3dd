"""The way of a run's records to MLflow: at once, or by way of the run folder while the store is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.utils.time import get_current_time_millis

from pipelines.errors import UserError
from pipelines.tracking_delivery import Delivery, batches
from pipelines.tracking_journal import Entry, Journal
from pipelines.tracking_store import AWAY, BRIEF, PATIENT, is_refusal, patience, reason

logger = logging.getLogger(__name__)
# a store that does not answer is tried again after this many seconds, or after 20 times what trying has cost
RETRY_SECONDS, RETRY_SHARE = 15.0, 20


class Outbox:
    """Sends entries, or keeps them in the run folder's journal and sends them later, oldest first.

    Trying a store that is away costs a training a twentieth of its time at most. Any thread may record.

    Args:
        run_dir: the run folder.
        connect: finds the run in the store, or makes it; raises when the store is away.

    Attributes:
        delivery: ``None`` while the run was not found in the store.
    """

    def __init__(self, run_dir: Path, connect: Callable[[], Delivery]) -> None:
        self.journal, self._connect = Journal(run_dir), connect
        self.delivery: Delivery | None = None
        self._lock = threading.RLock()
        self._away, self._next_try = False, 0.0

    def connect(self, needed: bool) -> None:
        """Find the run in the store, or make it.

        Args:
            needed: whether a store that is away is an error; otherwise it is looked for again later.

        Raises:
            UserError: when it is needed and away, or when ``connect`` says so.
        """
        with self._lock:
            started = time.monotonic()
            try:
                with patience(PATIENT):
                    self._find_run()
            except AWAY as error:
                if needed:
                    raise UserError(f"The MLflow store cannot be used: {reason(error)}") from error
                self._went_away(error, time.monotonic() - started)

    def next_step(self, prefix: str) -> int | None:
        """Return the step after the last one of all metrics whose names begin so; ``None`` while that is not known."""
        found: list[int] = []
        with self._lock:
            if self.delivery is not None and not self.journal.pending:
                self._answered(lambda: found.append(self.delivery.next_step(prefix)), BRIEF)
        return found[0] if found else None

    def record(self, kind: str, **content: Any) -> None:
        """Send an entry now, or keep it; see :class:`~pipelines.tracking_delivery.Delivery` for what it may hold."""
        entry: Entry = {"kind": kind, "time": get_current_time_millis(), **content}
        with self._lock:
            if self.delivery is not None and not self.journal.pending and self._sent([entry], BRIEF):
                return
            self._keep(entry)
            if time.monotonic() >= self._next_try:
                self.flush(BRIEF)

    def _keep(self, entry: Entry) -> None:
        try:
            if entry["kind"] == "artifact":
                entry["file"] = self.journal.relative(Path(entry["file"]), entry["folder"])
            self.journal.append(entry)
        except OSError as error:  # a full disk: a training is worth more than a record of it
            logger.warning("Some %s of this run can be recorded nowhere: %s", entry["kind"], error.strerror)

    def flush(self, seconds: int = PATIENT) -> bool:
        """Send what is kept, oldest first, and return whether nothing is left of it.

        Args:
            seconds: how long to wait for each answer.
        """
        with self._lock, self.journal.locked():
            waiting = batches(self.journal.read())
            if self._connected(seconds):
                self.delivery.forget()
                while waiting and self._sent(waiting[0], seconds):
                    waiting.pop(0)
                with suppress(OSError):  # a full disk: what was sent is looked up when it is sent again
                    self.journal.keep([entry for batch in waiting for entry in batch])
            if self._away and not waiting:
                logger.info("The MLflow store answers again and has everything.")
                self._away = False
        return not waiting

    def _connected(self, seconds: int) -> bool:
        return self.delivery is not None or self._answered(self._find_run, seconds)

    def _find_run(self) -> None:
        self.delivery = self._connect()

    def _sent(self, entries: Sequence[Entry], seconds: int) -> bool:
        """Send entries of one kind and return whether they need not be sent again."""
        return self._answered(lambda: self.delivery.send(entries), seconds, entries[0]["kind"])

    def _answered(self, ask: Callable[[], None], seconds: int, kind: str = "") -> bool:
        started = time.monotonic()
        try:
            with patience(seconds):
                ask()
        except (*AWAY, UserError) as error:
            # waiting for what is refused would not change that, and would keep everything after it
            if kind and is_refusal(error):
                logger.warning("MLflow does not take some %s of this run: %s", kind, reason(error))
                return True
            self._went_away(error, time.monotonic() - started)
            return False
        return True

    def _went_away(self, error: Exception, took: float) -> None:
        self._next_try = time.monotonic() + max(RETRY_SECONDS, RETRY_SHARE * took)
        if not self._away:
            what = "The MLflow store does not answer (%s). What it misses waits in %s until it does."
            logger.warning(what, reason(error), self.journal.path)
        logger.debug("The cause:", exc_info=error)
        self._away = True
