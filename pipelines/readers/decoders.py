"""Which compressed DICOM pixels the installed decoders read."""

from __future__ import annotations

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
