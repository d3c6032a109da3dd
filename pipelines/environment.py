"""What a result depends on besides its config: code, versions and kind of machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def environment_tags() -> dict[str, str]:
    """Return what a result depends on besides its config: code, versions and kind of machine (no host name)."""
    packages = ("monai", "torch", "numpy", "pytorch-ignite", "mlflow")
    commit = _git("rev-parse", "HEAD")
    tags = {f"version.{name}": version(name) for name in packages}
    tags["version.python"] = platform.python_version()
    tags["git.commit"] = commit or "unknown"
    tags["git.dirty"] = str(bool(_git("status", "--porcelain"))).lower() if commit else "unknown"
    tags["host.kind"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    tags["host.gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    tags["host.threads"] = str(torch.get_num_threads())
    return tags


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "-C", str(Path(__file__).parent), *arguments],  # noqa: S607 - git is where the user has it
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
