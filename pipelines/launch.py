"""Run a bundle's YAML from Python, through MONAI's own entry point."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import UserError


def run_bundle(config_file: str | Path, **overrides: Any) -> None:
    """Run ``config_file`` as ``python -m monai.bundle run`` does, with ``overrides`` of its ids.

    Raises:
        UserError: for a mistake that a person can mend, freed of the errors that MONAI wraps it in.
    """
    with _uncollected():
        from monai.bundle import run

    from pipelines.console import quiet, user_error

    quiet()
    # the config is the project's own, and the caller knows what it gave
    warnings.filterwarnings("ignore", message="parsing config_file")
    for name in ("monai.bundle.scripts", "monai.bundle.workflows"):
        logging.getLogger(name).setLevel(logging.WARNING)
    given = {name: str(value) if isinstance(value, Path) else value for name, value in overrides.items()}
    try:
        run(config_file=str(config_file), **given)
    except Exception as error:
        mendable = user_error(error)
        if mendable is not None:
            raise UserError(str(mendable)) from error
        raise


@contextmanager
def _uncollected() -> Iterator[None]:
    """Import MONAI without Python's search for garbage, which finds none in modules and takes a third of the time.

    What was made meanwhile is not looked at afterwards either.
    """
    if "monai" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
