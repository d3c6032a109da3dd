"""What ``mlflow.yaml`` says, for what is no bundle's YAML: where runs are recorded, and what experiments are called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

FILE = "mlflow.yaml"


def tracking_uri() -> str:
    """Return the tracking URI of ``mlflow.yaml``; ``MLFLOW_TRACKING_URI`` goes before it."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _content().get("tracking_uri", "sqlite:///mlflow.db")


def experiment(bundle: str) -> str:
    """Return the name of a bundle's experiment; that of the bundle where ``mlflow.yaml`` has no line for it."""
    return (_content().get("experiments") or {}).get(bundle, bundle)


def _content() -> dict[str, Any]:
    import yaml

    path = Path(FILE)
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}
