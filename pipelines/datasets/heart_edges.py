"""The edges that the cardiac bundle learns, from the cases of a data set of hearts."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from pipelines.datasets import heart
from pipelines.datasets.datalist import Case
from pipelines.errors import UserError

logger = logging.getLogger(__name__)


def with_edges(cases: Sequence[Case], thorax: bool) -> list[Case]:
    """Return cases whose ``label`` is the list of edges to learn: the box and, with ``thorax``, that range (or NaN).

    Each also has the image's path under ``path``, which loading the image leaves alone.
    """
    unknown = [math.nan, math.nan]
    return [
        {
            "case": case["case"],
            "image": case["image"],
            "path": case["image"],
            "label": [*case["box"], *(case.get("thorax", unknown) if thorax else ())],
        }
        for case in cases
    ]


def knows_thorax(cases: Sequence[Case]) -> bool:
    """Whether the thorax's range is known of any case."""
    return any(not math.isnan(case.get("thorax", [math.nan])[0]) for case in cases)


def require(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] | None = None,
    val_cases: int | str | Sequence[str] | None = None,
    thorax: bool | None = None,
) -> None:
    """Refuse a data set that nothing good can be learnt from, and settle ``thorax`` in the config that is being run.

    Args:
        dataset_dir: the data set.
        train_cases: as for :func:`pipelines.datasets.heart.load_split`.
        val_cases: likewise.
        thorax: whether to learn the thorax's range; None is where a case that trains has one.

    Raises:
        UserError: see :func:`pipelines.checks.cardiac.require`; or ``thorax`` is asked for and no case has a range.
    """
    from pipelines.checks import cardiac
    from pipelines.session import running_parser

    cardiac.require(dataset_dir, train_cases, val_cases)
    known = knows_thorax(heart.load_split(dataset_dir, train_cases, val_cases)["train"])
    if thorax and not known:
        raise UserError(
            f"thorax is true, but no case that trains has a range in {dataset_dir}/{heart.THORAX}.\n"
            "Add that table, or leave --thorax away: the heart's box is learnt without it."
        )
    if not known:
        message = "There is no %s: the box is learnt alone, and no cardiothoracic ratio will be given."
        logger.warning(message, heart.THORAX)
    running_parser().config["thorax"] = known if thorax is None else thorax
