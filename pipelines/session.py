"""What a bundle does before anything is built: check the command line, find or make the run folder, start the log."""

from __future__ import annotations

import inspect
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism

from pipelines.errors import UserError, nearest
from pipelines.files import write_text
from pipelines.runs import BEST, CONFIG, LAST, LOG, existing_run_dir, new_run_dir, newest_finished

logger = logging.getLogger(__name__)

# ids that MONAI, or other tools that load a bundle, read by name
_PUBLIC = {"_meta_", "imports", "initialize", "run", "finalize", "bundle_root", "dataset_dir", "device"}
_PUBLIC |= {
    "network_def",
    "train",
    "validate",
    "max_epochs",
    "val_interval",
    "resume",
    "run_name",
    "output_dir",
}
_PUBLIC |= {"dataset", "evaluator", "inferer", "handlers", "preprocessing", "postprocessing", "key_metric"}
_PUBLIC |= {"trained_with", "ckpt_path", "runs_dir"}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_KNOBS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_epochs": (_is_count, "a whole number above 0"),
    "batch_size": (_is_count, "a whole number above 0"),
    "val_interval": (_is_count, "a whole number above 0"),
    "lr": (lambda v: isinstance(v, int | float) and 0 < v < 10, "a number above 0, e.g. 1e-3"),
    "seed": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "dataset_dir": (lambda v: v is None or (isinstance(v, str | list) and len(v) > 0), "a path"),
    "output_dir": (lambda v: v is None or (isinstance(v, str) and v != ""), "a folder"),
}


def begin_training() -> None:
    """Check the config of the bundle that is being run, make or reopen its run folder, and fix the seed.

    The run folder is put into the config as ``run_dir``. With ``resume`` set, the config that the run folder holds
    goes on, and only what was given anew on the command line replaces it.

    Raises:
        UserError: for an id that no config defines, a knob out of range, or a run folder that cannot be used.
    """
    parser = _begin()
    config = parser.config
    if config.get("resume"):
        run_dir = existing_run_dir(config["resume"], needs=LAST)
        stored = ConfigParser.load_config_file(run_dir / CONFIG)
        parser.config = _resumed(stored, config)
    else:
        run_dir = new_run_dir(config["output_dir"], config["run_name"])
    parser.config["run_dir"] = str(run_dir)
    parser.parse(True)
    log_to(run_dir / LOG)
    write_text(run_dir / CONFIG, _as_yaml(parser.config))
    set_determinism(seed=parser.config["seed"])
    logger.info("Run folder: %s", run_dir)


def begin_use() -> None:
    """Check the config of the bundle that is being run (evaluation, inference), and fit it to its checkpoint.

    ``ckpt_path`` becomes the best weights of the newest finished run in ``runs_dir`` where it is null. The ids that
    ``trained_with`` lists are replaced by what the checkpoint's run folder says, so weights always meet the network
    and the transforms that they were trained with; what the command line gives goes before that.

    Raises:
        UserError: for an id that no config defines, a knob out of range, or no checkpoint to use.
    """
    parser = _begin()
    config = parser.config
    given = command_line_ids()
    checkpoint = _checkpoint(config)
    run_config = checkpoint.parent / CONFIG
    if run_config.is_file():
        stored = ConfigParser.load_config_file(run_config)
        config.update({k: stored[k] for k in config["trained_with"] if k in stored and k not in given})
    else:
        logger.warning("%s has no %s beside it: the bundle's own settings are used.", checkpoint, CONFIG)
    config["ckpt_path"] = str(checkpoint)
    parser.config = config
    parser.parse(True)
    logger.info("Checkpoint: %s", checkpoint)


def _checkpoint(config: dict) -> Path:
    if not config["ckpt_path"]:
        return newest_finished(config["runs_dir"]) / BEST
    path = Path(config["ckpt_path"])
    path = path / BEST if path.is_dir() else path
    if not path.is_file():
        near = [str(p) for p in path.parent.glob("*.pt")] if path.parent.is_dir() else []
        raise UserError(f"There is no checkpoint {path}{nearest(str(path), near)}")
    return path


def _begin() -> ConfigParser:
    quiet()
    _install_excepthook()
    parser = running_parser()
    refuse_unknown_ids(parser.config)
    check_knobs(parser.config)
    return parser


def running_parser() -> ConfigParser:
    """Return the parser of the ``ConfigWorkflow`` that is running this expression.

    MONAI gives an expression no way to its own config, so the workflow is looked for among the callers.
    """
    frame = inspect.currentframe()
    while frame is not None:
        candidate = frame.f_locals.get("self")
        if isinstance(candidate, ConfigWorkflow):
            return candidate.parser
        frame = frame.f_back
    raise RuntimeError(
        "this is meant to be called from a bundle's `initialize`, by `python -m monai.bundle run`"
    )


def refuse_unknown_ids(config: dict) -> None:
    """Raise UserError for a root id that nothing in ``config`` refers to: a mistyped override lands as one.

    MONAI accepts any ``--name value`` and adds it to the config, so ``--max_epoch 1`` would be without effect.
    """
    used = {name for text in _strings(config) for name in re.findall(r"@(\w+)", text)} | _PUBLIC
    for name in config:
        if name not in used:
            known = (set(config) & used) - {"imports", "initialize", "run", "finalize", "_meta_"}
            raise UserError(
                f"Unknown setting '{name}'{nearest(name, known)}\nKnown: {', '.join(sorted(known))}."
            )


def check_knobs(config: dict) -> None:
    """Raise UserError for the first knob of ``config`` whose value is of no use, naming what is expected."""
    for name, (holds, expected) in _KNOBS.items():
        value = config.get(name)
        if name in config and not holds(value) and not _is_expression(value):
            raise UserError(f"{name} must be {expected}, got {value!r}.")


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and value[:1] in ("$", "@", "%")


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def _resumed(stored: dict, given: dict) -> dict:
    """Return the stored config with those root knobs replaced that the command line gave, telling of each."""
    plain = {k: v for k, v in given.items() if not isinstance(v, dict | list) and not _is_expression(v)}
    given_now = command_line_ids() & plain.keys()
    for name in sorted(given_now - {"resume"}):
        if stored.get(name) != plain[name]:
            logger.warning("Resuming with %s = %s instead of %s.", name, plain[name], stored.get(name))
    return {**stored, **{name: plain[name] for name in given_now}, "resume": given["resume"]}


def command_line_ids() -> set[str]:
    """Return the root ids that were given to ``monai.bundle.run`` beside the config file."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "run" and "override" in frame.f_locals and "config_file" in frame.f_locals:
            return {re.split("#|::", name)[0] for name in frame.f_locals["override"]}
        frame = frame.f_back
    return set()


def _as_yaml(config: dict) -> str:
    import yaml

    content = {k: v for k, v in config.items() if k != "_meta_"}
    return yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)


def quiet() -> None:
    """Silence messages of dependencies that a user can do nothing about."""
    # an optional GPU decoder that MONAI 1.6 looks for at every image it loads
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    # ignite repeats in one line each what our own progress says
    logging.getLogger("ignite").setLevel(logging.WARNING)
    for name in ("alembic", "mlflow.store.db", "mlflow.system_metrics", "mlflow.data"):  # start-up notes
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings(
        "ignore", message=r".*torch\.jit"
    )  # MONAI decorates with what torch 2.13 deprecates


def log_to(path: Path) -> None:
    """Append everything that is logged from now on to ``path``, in place of any run's log opened before."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if getattr(h, "of_run", False)]:
        root.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.of_run = True
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)


def user_error(error: BaseException | None) -> UserError | None:
    """Return the UserError that ``error`` is or was caused by, or ``None``."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _install_excepthook() -> None:
    """Answer errors of ``python -m monai.bundle`` in three lines; leave other programs' errors to them."""
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main is not None and main.name.startswith("monai.bundle"):
        sys.excepthook = print_briefly


def print_briefly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error in at most three lines on stderr, and its traceback to the run's ``log.txt`` where there is one."""
    files = [h for h in logging.getLogger().handlers if getattr(h, "of_run", False)]
    for handler in files:
        handler.stream.write("".join(traceback.format_exception(kind, error, trace)))
        handler.flush()
    where = f"The traceback is in {files[0].baseFilename}." if files else ""
    mendable = user_error(error)
    if issubclass(kind, KeyboardInterrupt):
        lines = ["Stopped."]
    elif mendable is not None:
        lines = [f"Error: {mendable}"]
    else:
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [f"Error: {type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}", where]
    print("\n".join(line for line in lines if line), file=sys.stderr)
    if not files and mendable is None and not issubclass(kind, KeyboardInterrupt):
        traceback.print_exception(kind, error, trace)
