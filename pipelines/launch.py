"""Run a bundle's YAML from Python, through MONAI's own entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.errors import UserError


def run_bundle(config_file: str | Path, **overrides: Any) -> None:
    """Run ``config_file`` as ``python -m monai.bundle run`` does, with ``overrides`` of its ids.

    Raises:
        UserError: for a mistake that a person can mend, freed of the errors that MONAI wraps it in.
    """
    from monai.bundle import run

    from pipelines.session import quiet, user_error

    quiet()
    try:
        run(config_file=str(config_file), **overrides)
    except Exception as error:
        mendable = user_error(error)
        if mendable is not None:
            raise UserError(str(mendable)) from error
        raise
