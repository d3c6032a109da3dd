"""The split of a data set by patient into training, validation and test.

A *case* is a dictionary that has its name under ``case``; a *split* holds lists of cases under ``SPLITS``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from pipelines.errors import UserError, nearest

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


def split_cases(
    cases: Sequence[dict[str, str]],
    train_cases: int | str | Sequence[str] = 16,
    val_cases: int | str | Sequence[str] = 4,
) -> dict[str, list[dict[str, str]]]:
    """Split ``cases`` by patient into train, val and test (all others), the same way every time.

    Args:
        cases: as :func:`pipelines.datasets.msd.read_cases` returns them, in their order.
        train_cases: how many of the first cases train, or the names of those that do; text from a command
            line is accepted: ``"16"``, ``"la_003,la_004"``.
        val_cases: how many of the next cases validate, or their names.

    Returns:
        ``{"train": …, "val": …, "test": …}``, each in the order of ``cases``. Where two numbers ask for more
        cases than there are, these are split in the same proportion, at least one a side, and that is logged.

    Raises:
        UserError: fewer than two cases, a number below one, an unknown or repeated name, one on both sides.
    """
    names = [case["case"] for case in cases]
    if len(names) < 2:
        raise UserError(f"a split needs at least 2 cases, one to train and one to validate; got {len(names)}")
    wanted = {
        "train_cases": _parse_wanted("train_cases", train_cases),
        "val_cases": _parse_wanted("val_cases", val_cases),
    }
    for option, want in wanted.items():
        _check_names(option, want, names)
    chosen = _choose(names, *wanted.values())
    split: dict[str, list[dict[str, str]]] = {name: [] for name in SPLITS}
    for case in cases:
        split[chosen.get(case["case"], "test")].append(dict(case))
    return split


def _parse_wanted(option: str, value: Any) -> int | list[str]:
    """Return a count or a list of names from what a config or a command line gave."""
    if isinstance(value, str):
        value = value.strip()
        value = int(value) if re.fullmatch(r"[+-]?[0-9]+", value) else value.split(",")
    if isinstance(value, list | tuple) and (names := [str(name).strip() for name in value]):
        return names
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise UserError(f"{option} must be a number of at least 1 or a list of case names, got {value!r}")


def _check_names(option: str, want: int | list[str], known: list[str]) -> None:
    if isinstance(want, int):
        return
    for name in want:
        if name not in known:
            raise UserError(
                f"{option} names case '{name}', which is not in the data set{nearest(name, known)}"
            )
        if want.count(name) > 1:
            raise UserError(f"{option} names case '{name}' more than once; name each case once")


def _choose(names: list[str], train: int | list[str], val: int | list[str]) -> dict[str, str]:
    """Return ``{case: "train" or "val"}``; a number takes the first that the other side leaves."""
    asked = [len(want) if isinstance(want, list) else want for want in (train, val)]
    if isinstance(train, int) and isinstance(val, int) and train + val > len(names):
        count = min(max(round(len(names) * train / (train + val)), 1), len(names) - 1)
        train, val = count, len(names) - count
    named = set(val) if isinstance(val, list) else set()
    train = [name for name in names if name not in named][:train] if isinstance(train, int) else train
    val = [name for name in names if name not in set(train)][:val] if isinstance(val, int) else val
    if both := sorted(set(train) & set(val)):
        raise UserError(
            f"case '{both[0]}' is in both train_cases and val_cases; a patient may be on one side only"
        )
    if not train or not val:
        raise UserError(
            f"no case is left to {'validate' if train else 'train'}: name fewer on the other side"
        )
    if asked != [len(train), len(val)]:
        message = "asked for %d + %d of %d cases: %d train and %d validate"
        logger.info(message, *asked, len(names), len(train), len(val))
    return {**dict.fromkeys(train, "train"), **dict.fromkeys(val, "val")}
