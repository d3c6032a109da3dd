"""The prediction loop that every task shares: one result folder a case, whole or absent."""

from __future__ import annotations

import csv
import logging
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import uuid4

from pipelines.errors import UserError
from pipelines.files import atomic_path, json_text

if TYPE_CHECKING:
    import torch
    from monai.transforms import Compose
    from rich.console import Console
    from torch import nn

logger = logging.getLogger(__name__)


class CaseInput(Protocol):
    """One input: ``case`` is a plain folder name, unique among the inputs; ``path`` the file or folder."""

    @property
    def case(self) -> str:
        """The name of the result folder."""

    @property
    def path(self) -> Path:
        """What is read."""


Item = TypeVar("Item", bound=CaseInput)


class Prediction:
    """What every prediction with a bundle has: its inputs, the network, and where results go.

    Args:
        inputs: a path, or several.
        output_dir: a folder a case is written here.
        network: with its weights, on ``device``; one or an :class:`~pipelines.ensemble.Ensemble`.
        preprocessing: the deterministic transforms, on ``image``.
        device: where the network is.
        source: see :func:`pipelines.prediction.provenance`.
    """

    def __init__(
        self,
        inputs: str | Path | Sequence[str | Path],
        output_dir: str | Path,
        network: nn.Module,
        preprocessing: Compose,
        device: str | torch.device,
        source: Mapping[str, Any],
    ) -> None:
        self.inputs = [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
        self.output_dir, self.network, self.preprocessing = Path(output_dir), network, preprocessing
        self.device, self.source = device, dict(source)

    def predict_each(
        self, items: Sequence[Item], predict_one: Callable[[Item, Path], dict[str, Any]]
    ) -> None:
        """Predict every input, see :func:`predict_cases`; one that cannot be read is reported and the others still run.

        Raises:
            SystemExit: with code 1 when any input failed.
        """
        from rich.console import Console

        failed = predict_cases(items, predict_one, self.output_dir, Console(stderr=True))
        logger.info("Results are in %s", self.output_dir)
        if failed:
            raise SystemExit(1)


def result_record(
    provenance: Mapping[str, str], item: CaseInput, result: dict[str, Any], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return the content of ``result.json``.

    Args:
        provenance: ``bundle``, ``model_sha256`` and ``config_sha256``.
        item: gives ``input``, the file's own name. Nothing of its header is written.
        result: the measurements; the first number in it stands in the summary line, and ``decision`` after it
            where there is one; ``review`` holds ``needed`` and ``reasons``.
        warnings: what a person should know about the input.
    """
    names = ("bundle", "model_sha256", "config_sha256")
    return {
        **{name: provenance[name] for name in names},
        "input": item.path.name,
        "result": result,
        "warnings": list(warnings),
    }


def predict_cases(
    items: Sequence[Item],
    predict_one: Callable[[Item, Path], dict[str, Any]],
    out_dir: str | os.PathLike[str],
    console: Console,
) -> int:
    """Predict case after case, so that one bad input costs nothing but itself.

    Each case's files are written into a hidden folder and moved to ``out_dir/<case>`` as a whole; a result of
    an earlier run is replaced as a whole, anything else of that name is left alone and reported.
    ``out_dir/summary.csv`` has a row a case: ``case``, ``status`` ("done", "failed" or "not run"), the
    fields of ``result``, ``warnings`` and ``reason``. It is written when the user interrupts too, and what
    was finished stays. The traceback of an error that no ``UserError`` explains goes to ``out_dir/log.txt``.

    Args:
        items: the inputs.
        predict_one: takes an input and the folder for its files, returns its ``result_record``.
        out_dir: made where it is missing.
        console: where progress, failures and the summary are shown.

    Returns:
        The exit code: 0, or 1 when any case failed.

    Raises:
        UserError: ``out_dir`` is no folder or cannot be written; nothing was predicted yet.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out_dir = _writable_folder(Path(out_dir))
    rows = [{"case": item.case, "status": "not run"} for item in items]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            for item, row in progress.track(list(zip(items, rows, strict=True)), description="Predicting"):
                row.update(_predict_into(item, predict_one, out_dir))
                if row["status"] == "failed" and len(rows) > 1:
                    _say(console, "red", "failed", item.case, row["reason"])
    finally:
        try:
            _write_summary(out_dir / "summary.csv", rows)
        except OSError as error:
            _say(console, "red", "failed", "summary.csv", f"cannot be written: {error.strerror}")
    for row in rows:
        _summarise(console, row)
    return int(any(row["status"] != "done" for row in rows))


def _predict_into(
    item: Item, predict_one: Callable[[Item, Path], dict[str, Any]], out_dir: Path
) -> dict[str, Any]:
    try:
        target = _free_target(out_dir, item)
        with _replaced_folder(target) as folder:
            record = predict_one(item, folder)
            # the folder is moved as a whole, so the file need not be
            (folder / "result.json").write_text(json_text(record), encoding="utf-8")
        return {"status": "done", **_flat(record["result"]), "warnings": "; ".join(record["warnings"])}
    except UserError as error:
        return {"status": "failed", "reason": _one_line(error)}
    except Exception as error:
        # on a full disk the reason still stands in the summary
        with suppress(OSError), open(out_dir / "log.txt", "a", encoding="utf-8") as log:
            log.write(f"case {item.case}\n{''.join(traceback.format_exception(error))}\n")
        return {"status": "failed", "reason": f"{type(error).__name__}: {_one_line(error)} (see log.txt)"}


def _writable_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UserError(
            f"expected a folder to write the results to, got {path} ({error.strerror}); choose another --out"
        ) from error


def _free_target(out_dir: Path, item: CaseInput) -> Path:
    """Return the case's folder, once it is sure that nothing but a result of ours would be replaced."""
    target = out_dir / item.case
    source, resolved = item.path.resolve(), target.resolve()
    inside = resolved == source or resolved in source.parents
    if inside or (target.exists() and not (target / "result.json").is_file()):
        raise UserError(f"{target} exists and is no result that could be replaced; choose another --out")
    return target


@contextmanager
def _replaced_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``target`` once the block has ended well."""
    new, old = (target.with_name(f".tmp-{uuid4().hex}") for _ in range(2))
    new.mkdir()
    try:
        yield new
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if old.exists():
        shutil.rmtree(old, ignore_errors=True)


def _flat(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields as one row: ``review.needed``; lists joined by "; "."""
    flat: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def _write_summary(path: Path, rows: list[dict[str, Any]]) -> None:
    fields = dict.fromkeys(name for row in rows for name in row if name not in ("warnings", "reason"))
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*fields, "warnings", "reason"], restval="")
        writer.writeheader()
        writer.writerows(rows)


def _summarise(console: Console, row: dict[str, Any]) -> None:
    if row["status"] == "failed":
        return _say(console, "red", "failed", row["case"], row["reason"])
    name, value = next(((k, v) for k, v in row.items() if type(v) in (int, float)), ("", None))
    answer = f"{name} {value:g}" if name else "done"
    if "decision" in row:
        answer += f", {row['decision']}"
    if row.get("review.needed"):
        return _say(console, "yellow", "review", row["case"], f"{answer} - {row['review.reasons']}")
    return _say(console, "green", "ok", row["case"], answer)


def _say(console: Console, colour: str, status: str, case: str, text: str) -> None:
    from rich.text import Text

    # As Text, because brackets in a file's name would be read as markup.
    name = case if case.isprintable() else repr(case)[1:-1]  # one line, whatever a file is called
    line = Text.assemble((f"{status:<8}", colour), f"{name}  {text}")
    console.print(line, soft_wrap=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
