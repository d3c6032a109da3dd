"""What a person gets to see: no noise of dependencies, errors in three lines, and a log that keeps the rest."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

from pipelines.errors import UserError
from pipelines.redact import redacted


def quiet() -> None:
    """Silence messages of dependencies that a user can do nothing about."""
    # an optional GPU decoder that MONAI 1.6 looks for at every image it loads
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    # ignite announces each run of an engine, and each exception before it is raised to us
    for name in ("ignite", "monai.engines"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # what nibabel mends in a header, without the file's name: readers and checks tell what matters
    logging.getLogger("nibabel.global").setLevel(logging.ERROR)
    # letters of a case's name that the pictures' font lacks
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")
    for name in ("alembic", "mlflow.store.db", "mlflow.system_metrics"):  # start-up notes
        logging.getLogger(name).setLevel(logging.ERROR)
    # MONAI repeats what stands on the command line, which may be an address with a password
    logging.getLogger("monai.bundle.scripts").addFilter(_redact)
    # MONAI 1.6 decorates with what torch 2.13 deprecates
    warnings.filterwarnings("ignore", message=r".*torch\.jit")


def _redact(record: logging.LogRecord) -> bool:
    record.msg, record.args = redacted(record.getMessage()), ()
    return True


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class RunLog(logging.FileHandler):
    """The log of the run that this process works on; holds the run folder against other processes.

    Raises:
        UserError: when another process is at work in the folder, or the log cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path, encoding="utf-8")
            self._lock()
        except BlockingIOError:
            self.close()
            raise UserError(
                f"{path.parent} is in use: another process is training in it. Wait, or stop it."
            ) from None
        except OSError as error:
            raise UserError(f"Cannot write {path}: {error.strerror}. Mend the folder.") from error
        self.setFormatter(_Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not a POSIX system: go on without
            return
        # unlike flock, not inherited by the processes that load data, so it ends with this process
        fcntl.lockf(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Let a full disk cost the line, not the training."""


def log_to(path: Path) -> None:
    """Append everything that is logged from now on to ``path``, in place of any run's log opened before.

    Raises:
        UserError: see :class:`RunLog`.
    """
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, RunLog)]:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(RunLog(path))


def user_error(error: BaseException | None) -> UserError | None:
    """Return the UserError that ``error`` is or was caused by, or ``None``."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


def answer_briefly() -> None:
    """Let errors of ``python -m monai.bundle`` be answered in three lines; leave other programs' errors to them."""
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main is not None and main.name.startswith("monai.bundle"):
        sys.excepthook = print_briefly


def print_briefly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error in at most three lines on stderr; the traceback goes to the run's log where there is one."""
    log = next((h for h in logging.getLogger().handlers if isinstance(h, RunLog)), None)
    if log is not None:
        _append(log, redacted("".join(traceback.format_exception(kind, error, trace))))
    mendable = user_error(error)
    if issubclass(kind, KeyboardInterrupt):
        lines = [] if getattr(error, "told", False) else ["Stopped."]
    elif mendable is not None:
        lines = str(mendable).splitlines()[:3]
        lines[0] = f"Error: {lines[0]}"
    elif log is not None:
        lines = [f"Error: {in_one_line(error)}", f"The traceback is in {log.baseFilename}."]
    else:
        lines = [redacted("".join(traceback.format_exception(kind, error, trace)).rstrip())]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)


def in_one_line(error: BaseException) -> str:
    """Return the kind and the first line of the error that was at the root of ``error``."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {redacted(first)[:300]}" if first else type(error).__name__


def _append(log: Any, text: str) -> None:
    try:
        log.stream.write(text)
        log.flush()
    except OSError:  # a full disk: the console has the error
        pass
