"""Names and passwords of addresses stay out of what is written and shown."""

from __future__ import annotations

import re


def redacted(text: str) -> str:
    """Return ``text`` without the ``user:password@`` of any address in it."""
    return re.sub(r"://[^/\s'\"]*@", "://", text)
