"""Run folders: where a training keeps everything, and how later commands find it."""

from __future__ import annotations

import json
import secrets
from datetime import datetime
from pathlib import Path

from pipelines.errors import UserError, nearest

CONFIG, BEST, LAST = "config.yaml", "model.pt", "last.pt"
CROSSVAL = "crossval.json"  # in the folder of a cross-validation
DATALIST, CASES, LOG, TRACKING = "datalist.json", "cases.csv", "log.txt", "mlflow.json"
ENVIRONMENT = "environment.json"
UNSENT, UNSENT_FILES = "unsent.jsonl", "unsent"


def unique_name() -> str:
    """Return a run name that sorts by time and that two runs started at once do not share."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def new_run_dir(output_dir: str | Path, run_name: str | None) -> Path:
    """Make and return the folder of a new run.

    Args:
        output_dir: the folder that holds the runs of a bundle, e.g. ``runs/atrium``.
        run_name: the name of the run's folder; ``None`` makes a unique one.

    Raises:
        UserError: when the name is taken or is no plain folder name, or the folder cannot be made.
    """
    name = run_name or unique_name()
    if Path(name).name != name or name == "..":
        raise UserError(f"run_name must be a plain name without folders, got '{name}'.")
    run_dir = Path(output_dir) / name
    try:
        run_dir.mkdir(parents=True)
    except FileExistsError:
        raise UserError(
            f"The run folder {run_dir} exists already. Choose another run_name, "
            f"or continue that run with --resume {run_dir}."
        ) from None
    except OSError as error:
        raise UserError(f"Cannot make the run folder {run_dir}: {error.strerror}. Set output_dir.") from error
    return run_dir


def existing_run_dir(path: str | Path, needs: str = LAST) -> Path:
    """Return ``path`` as a run folder that holds the file ``needs``.

    Raises:
        UserError: when it is no run folder, or has no such file yet.
    """
    run_dir = Path(path)
    if run_dir.is_file():
        run_dir = run_dir.parent
    if not run_dir.is_dir():
        known = [str(p) for p in run_dir.parent.iterdir()] if run_dir.parent.is_dir() else []
        raise UserError(f"There is no run folder {run_dir}{nearest(str(run_dir), known)}")
    if not (run_dir / CONFIG).is_file():
        raise UserError(f"{run_dir} is no run folder: it holds no {CONFIG}.")
    if not (run_dir / needs).is_file():
        raise UserError(
            f"{run_dir} holds no {needs}: its training stopped before the first epoch ended. Start it anew."
        )
    return run_dir


def find_run(text: str | Path, root: str | Path = "runs") -> Path:
    """Return the folder of a training or of a cross-validation.

    Args:
        text: the folder or a file in it; the run's name, with its bundle before it (``atrium/short``) where two
            bundles share the name; a fold's (``five/fold_1``); or the id of its MLflow run.
        root: the folder that holds the bundles' runs.

    Raises:
        UserError: when there is no such run, or more than one.
    """
    path = Path(text)
    path = path.parent if path.is_file() else path
    if _is_run(path):
        return path
    known = {p.relative_to(root).as_posix(): p for p in _run_folders(Path(root))}
    found = [p for name, p in known.items() if str(text) in (name, name.partition("/")[2])]
    found = found or [p for p in known.values() if read_tracking(p).get("run_id") == str(text)]
    if len(found) > 1:
        raise UserError(
            f"'{text}' names {len(found)} runs: {', '.join(map(str, found))}. Name one with its folder."
        )
    if not found and path.is_dir():
        raise UserError(f"{path} is no run folder: it holds neither {CONFIG} nor {CROSSVAL}.")
    if not found:
        hint = nearest(str(text), [*known, *(name.partition("/")[2] for name in known)]) or "."
        raise UserError(
            f"There is no run '{text}' in {Path(root).absolute().name}{hint}\n"
            "Give a run's name, its folder, or the id of its MLflow run."
        )
    return found[0]


def _run_folders(root: Path) -> list[Path]:
    """Return the run folders of every bundle below ``root``, those of folds last."""
    return [p for pattern in ("*/*", "*/*/fold_*") for p in sorted(root.glob(pattern)) if _is_run(p)]


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or (folder / CROSSVAL).is_file()


def newest_finished(output_dir: str | Path) -> Path:
    """Return the run folder below ``output_dir`` whose training finished last.

    Raises:
        UserError: when no finished run is there.
    """
    finished = [p.parent for p in Path(output_dir).glob(f"*/{TRACKING}") if is_finished(p.parent)]
    if not finished:
        raise UserError(
            f"No finished training was found in {output_dir}. Train first, or name a checkpoint with --ckpt_path."
        )
    return max(finished, key=_last_epoch)


def _last_epoch(run_dir: Path) -> float:
    """Return when the last epoch ended; the best weights alone may be much older, and stay where space is wanted."""
    path = run_dir / LAST
    return (path if path.is_file() else run_dir / BEST).stat().st_mtime


def is_finished(run_dir: Path) -> bool:
    """Whether the training of a run folder ended well and left its best weights."""
    return read_tracking(run_dir).get("status") == "FINISHED" and (run_dir / BEST).is_file()


def read_tracking(run_dir: Path) -> dict:
    """Return what a run folder knows of its MLflow run (``run_id``, ``status``, …); empty when it knows nothing."""
    known = read_json(Path(run_dir) / TRACKING)
    return known if isinstance(known.get("run_id", ""), str) else {}


def read_json(path: Path) -> dict:
    """Return the dictionary that a run's JSON file holds; empty where there is no such file or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
