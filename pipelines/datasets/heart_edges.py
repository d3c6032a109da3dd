"""The edges that the cardiac bundle learns, from the cases of a data set of hearts."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.datasets import heart
from pipelines.datasets.datalist import Case
from pipelines.errors import UserError

logger = logging.getLogger(__name__)


def with_edges(cases: Sequence[Case], thorax: bool) -> list[Case]:
    """Return cases whose ``label`` is the array of edges to learn: the box and, with ``thorax``, its range (or NaN).

    Each also has the image's path under ``path``, which loading the image leaves alone.
    """
    unknown = [math.nan, math.nan]
    return [
        {
            "case": case["case"],
            "image": case["image"],
            "path": case["image"],
            "label": np.array([*case["box"], *(case.get("thorax", unknown) if thorax else ())], np.float32),
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
    bundle_root: str = "bundles/cardiac",
) -> None:
    """Refuse a data set that nothing good can be learnt from, and settle ``thorax`` in the config that is being run.

    Args:
        dataset_dir: the data set.
        train_cases: as for :func:`pipelines.datasets.heart.load_split`.
        val_cases: likewise.
        thorax: whether to learn the thorax's range; None is where a case that trains has one.
        bundle_root: of the bundle that trains, for the commands that errors name.

    Raises:
        UserError: see :func:`pipelines.checks.cardiac.require`; or ``thorax`` is asked for and no case has a range.
    """
    from pipelines.checks import cardiac
    from pipelines.session import running_parser

    cardiac.require(dataset_dir, train_cases, val_cases, bundle_root)
    train = heart.load_split(dataset_dir, train_cases, val_cases)["train"]
    known = knows_thorax(train)
    if not known:
        lacks = f"{heart.THORAX} has no range of any of the {len(train)} images that train"
        lacks = lacks if "thorax" in train[0] else f"there is no {heart.THORAX}"
        if thorax:
            raise UserError(
                f"thorax is true, but {lacks} in {dataset_dir}.\n"
                "Add their ranges, or leave --thorax away: the heart's box is learnt without them."
            )
        if thorax is None:
            message = "The box is learnt alone, and no cardiothoracic ratio will be given: %s."
            logger.warning(message, lacks)
    running_parser().config["thorax"] = known if thorax is None else thorax
