"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.registry import find_bundles

BundleName = Annotated[str, typer.Argument(metavar="BUNDLE", help=f"One of: {', '.join(find_bundles())}.")]
DatasetDir = Annotated[
    Path | None, typer.Option("--dataset_dir", help="Default: the bundle's own, under data/.")
]
Part = Annotated[str, typer.Option("--part", help="Whose evaluation: val, test, all, train or cases.")]
