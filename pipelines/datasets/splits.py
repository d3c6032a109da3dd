"""The split of a data set by patient into training, validation and test.

A *case* is a dictionary that has its name under ``case`` and, where several are of one patient, that patient under
``group``; a *split* holds lists of cases under ``SPLITS``.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pipelines.errors import UserError, nearest
from pipelines.files import sha256_json

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


def split_cases(
    cases: Sequence[Mapping[str, Any]],
    train_cases: int | str | Sequence[str] = 16,
    val_cases: int | str | Sequence[str] = 4,
) -> dict[str, list[dict[str, Any]]]:
    """Split ``cases`` by patient into train, val and test (all others), the same way every time.

    Args:
        cases: in their order. Cases that share a ``group`` are of one patient and stay together; a case
            without one is a patient of its own.
        train_cases: how many of the first cases train (the last of them brings the rest of its group), or the
            names of those that do; text from a command line is accepted: ``"16"``, ``"la_003,la_004"``.
        val_cases: how many of the next cases validate, or their names.

    Returns:
        ``{"train": …, "val": …, "test": …}``, each in the order of ``cases``. Where two numbers ask for more
        cases than there are, these are split in the same proportion, at least one a side, and that is logged.

    Raises:
        UserError: fewer than two patients, a number below one, an unknown or repeated name, a case or a patient
            on more than one side.
    """
    groups = {case["case"]: case.get("group", case["case"]) for case in cases}
    count = len(set(groups.values()))
    if count < 2:
        cases_of = "cases" if count == len(groups) else "patients"
        raise UserError(f"a split needs at least 2 {cases_of}, one to train and one to validate; got {count}")
    wanted = {
        "train_cases": _parse_wanted("train_cases", train_cases),
        "val_cases": _parse_wanted("val_cases", val_cases),
    }
    for option, want in wanted.items():
        _check_names(option, want, groups)
    chosen = _choose(groups, *wanted.values())
    _check_groups(groups, chosen)
    split: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for case in cases:
        split[chosen.get(case["case"], "test")].append(dict(case))
    return split


def in_proportion(train: int, val: int, count: int) -> tuple[int, int]:
    """Return how many of ``count`` cases are on each side in the proportion of ``train`` to ``val``, at least one."""
    first = min(max(round(count * train / (train + val)), 1), count - 1)
    return first, count - first


def split_hash(split: Mapping[str, Iterable[Mapping[str, Any]]], content: Callable[[Any], Any]) -> str:
    """Return a SHA-256 over the sorted (side, case, ``content(case)``), which JSON must be able to hold."""
    rows = [(side, case["case"], content(case)) for side, cases in split.items() for case in cases]
    return sha256_json(sorted(rows, key=lambda row: row[:2]))


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


def _check_names(option: str, want: int | list[str], known: Mapping[str, str]) -> None:
    if isinstance(want, int):
        return
    for name, count in Counter(want).items():
        if name not in known:
            raise UserError(
                f"{option} names case '{name}', which is not in the data set{nearest(name, known)}"
            )
        if count > 1:
            raise UserError(f"{option} names case '{name}' more than once; name each case once")


def _choose(groups: dict[str, str], train: int | list[str], val: int | list[str]) -> dict[str, str]:
    """Return ``{case: "train" or "val"}``; a number takes the first patients that the other side leaves."""
    asked = [len(want) if isinstance(want, list) else want for want in (train, val)]
    if isinstance(train, int) and isinstance(val, int) and train + val > len(groups):
        train, val = in_proportion(train, val, len(groups))
    if isinstance(train, int):
        train = _take(groups, train, val if isinstance(val, list) else [])
    if isinstance(val, int):
        val = _take(groups, val, train)
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
        logger.info(message, *asked, len(groups), len(train), len(val))
    return {**dict.fromkeys(train, "train"), **dict.fromkeys(val, "val")}


def _take(groups: dict[str, str], count: int, taken: list[str]) -> list[str]:
    """Return the cases of the first patients whose other cases are not ``taken``, until they are ``count`` or more.

    Where nothing is taken yet, the last patient is left to the other side.
    """
    members: dict[str, list[str]] = {}
    for name, group in groups.items():
        members.setdefault(group, []).append(name)
    for name in taken:
        members.pop(groups[name], None)
    if not taken:
        members.popitem()
    chosen: list[str] = []
    for names in members.values():
        if len(chosen) >= count:
            break
        chosen += names
    return chosen


def _check_groups(groups: dict[str, str], chosen: dict[str, str]) -> None:
    """Refuse a patient on two sides; names the cases, never the patient."""
    first: dict[str, str] = {}
    for name, group in groups.items():
        other = first.setdefault(group, name)
        sides = [chosen.get(case, "test") for case in (other, name)]
        if sides[0] != sides[1]:
            raise UserError(
                f"'{other}' ({sides[0]}) and '{name}' ({sides[1]}) are of one patient, who may be on one side "
                "only;\nlist both for the same side"
            )
