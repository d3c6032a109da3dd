"""The errors a person can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pipelines.redact import redacted


class UserError(Exception):
    """A mistake that a person can mend.

    Its message says what was expected, what came and what to do, in three lines at most. The command line and
    the bundles print the message alone; the traceback goes to the run's ``log.txt``. A password of an address that the
    message quotes, say from what a store answered, is left out.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(redacted(str(message)))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""
