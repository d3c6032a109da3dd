"""Names and passwords of addresses stay out of what is written and shown."""

from __future__ import annotations

import re

# SQLAlchemy takes a password with a slash in it, and a driver one that stands after the address
_BEFORE_HOST = re.compile(r"://(?:[^/\s'\"]*|[^/:\s'\"]*:[^@\s'\"]*)@")
_AFTER_HOST = re.compile(r"([?&](?:password|passwd|pwd|token|secret)=)[^&\s'\"]*", re.IGNORECASE)


def redacted(text: str) -> str:
    """Return ``text`` without the ``user:password@`` and the ``?password=`` of any address in it."""
    return _AFTER_HOST.sub(r"\1", _BEFORE_HOST.sub("://", text))
