"""What reading with pydicom needs around it: silence, and a decoder for compressed pixels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.errors import UserError


def check_decoder(syntax: Any) -> None:
    """Refuse a transfer syntax that no installed pydicom plugin decodes.

    Args:
        syntax: a pydicom ``UID``.

    Raises:
        UserError: names the syntax and what to install.
    """
    from pydicom.pixels import get_decoder

    if not (syntax.is_compressed and syntax.is_encapsulated):
        return
    try:
        decoder = get_decoder(syntax)
        if decoder.is_available:
            return
        advice = f"install one of: {', '.join(decoder.missing_dependencies)}"
    except NotImplementedError:
        advice = "export it uncompressed"
    raise UserError(f"no installed decoder reads the compression {syntax.name} ({syntax}); {advice}")


@contextmanager
def silent() -> Iterator[None]:
    """Keep pydicom from telling what it finds odd: its warnings and log lines quote values of the header."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
