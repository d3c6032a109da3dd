"""What a bundle does before anything is built: check the command line, find or make the run folder, start the log."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism

from pipelines.blocks import with_bases
from pipelines.checkpoints import load_last
from pipelines.console import answer_briefly, in_one_line, log_to, quiet, user_error
from pipelines.ensemble import find_checkpoints, require_alike
from pipelines.errors import UserError
from pipelines.files import write_text
from pipelines.mlflow_yaml import experiment
from pipelines.redact import redacted
from pipelines.runs import CONFIG, LAST, LOG, existing_run_dir, new_run_dir
from pipelines.settings import check_values, is_expression, refuse_unknown, resumed, split_id

logger = logging.getLogger(__name__)

# arguments of MONAI's entry points that are no ids of a config
_NOT_IDS = {
    "workflow_type",
    "properties_path",
    "meta_file",
    "logging_file",
    "init_id",
    "run_id",
    "final_id",
    "tracking",
}


def begin_training(preflight: Callable[..., None] | None = None) -> None:
    """Check the config of the bundle that is being run, make or reopen its run folder, and fix the seed.

    The run folder is put into the config as ``run_dir``. With ``resume`` set, the config that the run folder holds
    goes on, and only what was given anew on the command line replaces it.

    Args:
        preflight: looks at the data before a run folder is made and raises UserError where nothing good can be
            learnt from it. It is called with the settings that its arguments are named after.

    Raises:
        UserError: for an id that no config defines, a setting out of range, or a run folder that cannot be used.
    """
    parser, overrides = _begin()
    resume, told = parser.config.get("resume"), []
    names = inspect.signature(preflight).parameters if preflight else ()
    if resume:
        run_dir = existing_run_dir(resume, needs=LAST)
        stored = config_of(run_dir, parser.config["bundle_root"])
        stored |= _with_password(stored.get("tracking_uri"), parser.config.get("tracking_uri"))
        settings, told = resumed(stored, {name: parser[name] for name in overrides})
        if lost := [name for name in ("max_epochs", "seed", *names) if name not in settings]:
            raise UserError(f"{run_dir / CONFIG} is damaged: it lacks {', '.join(lost)}. Use another run.")
        parser.config = {"_meta_": parser.config.get("_meta_", {}), **settings}
        _check_values(parser)
        load_last(
            run_dir, parser.get_parsed_content("max_epochs")
        )  # fail now, not after the data are prepared
    if preflight is not None:
        # a run that is resumed goes on without its MLflow store
        unasked = {"tracking_uri"} if resume else set()
        preflight(**{name: None if name in unasked else _content(parser, name) for name in names})
    if not resume:
        run_dir = new_run_dir(parser.config["output_dir"], parser.config["run_name"])
    parser.config |= {"run_dir": str(run_dir), "resume": None}
    parser.parse(True)
    log_to(run_dir / LOG)
    for line in told:
        logger.warning(redacted(line))
    write_config(parser.config, run_dir)
    set_determinism(seed=parser.get_parsed_content("seed"))
    logger.info("Run folder: %s", run_dir)


def begin_use() -> None:
    """Check the config of the bundle that is being run (evaluation, inference), and fit it to its checkpoint.

    ``ckpt_path`` becomes the file of the weights, or a list of several that answer together; see
    :func:`pipelines.ensemble.find_checkpoints`. The ids that ``trained_with`` lists are replaced by what the
    checkpoint's run folder says, so weights always meet the network and the transforms that they were trained
    with; what the command line gives goes before that.

    Raises:
        UserError: for an id that no config defines, a setting out of range, no checkpoint to use, or several that
            were trained with different settings.
    """
    parser, overrides = _begin()
    config = parser.config
    checkpoints = find_checkpoints(config["ckpt_path"], config["runs_dir"])
    taken = {k for k in config["trained_with"] if k not in overrides}
    stored: dict[Path, dict[str, Any]] = {}
    for path in checkpoints:
        if (path.parent / CONFIG).is_file():
            settings = config_of(path.parent, config["bundle_root"])
            stored[path] = {name: settings[name] for name in settings if name in taken}
        else:
            logger.warning("%s has no %s beside it: the bundle's own settings are used.", path, CONFIG)
            stored[path] = {name: config[name] for name in taken}
    require_alike(stored)
    config |= stored[checkpoints[0]]
    parser.update({k: v for k, v in overrides.items() if split_id(k)[0] in taken})
    names = [str(path) for path in checkpoints]
    config["ckpt_path"] = names if len(names) > 1 else names[0]
    parser.parse(True)
    logger.info("Checkpoint: %s", ", ".join(names))


def checked_config(config_file: str | Path, overrides: Mapping[str, Any]) -> ConfigParser:
    """Return the parsed config of a training as it would begin with ``overrides``, after the same checks of it.

    Raises:
        UserError: for an id that the config does not define, or a setting out of range.
    """
    parser = ConfigParser()
    parser.read_config(str(config_file))
    defined = _defined(str(config_file))
    refuse_unknown({}, overrides, defined)  # before: an unknown id inside a block cannot be set
    parser.update(dict(overrides))
    parser.resolve_macro_and_relative_ids()
    parser.config = with_bases(parser.config)
    refuse_unknown(parser.config, overrides, defined)
    _check_values(parser)
    _name_experiment(parser.config)
    return parser


def _begin() -> tuple[ConfigParser, Mapping[str, Any]]:
    """Return the running config after its checks, and what of it was overridden."""
    quiet()
    answer_briefly()
    workflow = _running()
    parser = workflow.parser
    files, overrides = _invocation()
    parser.config = with_bases(parser.config)
    refuse_unknown(parser.config, overrides, _defined(files))
    if workflow.run_id not in parser:  # what stands on the command line without a name
        raise UserError(
            f"There is nothing called '{workflow.run_id}' to run. Give settings by name: --max_epochs 3."
        )
    _check_values(parser)
    _name_experiment(parser.config)
    return parser, overrides


def _name_experiment(config: dict[str, Any]) -> None:
    """Put the name of the MLflow experiment in, where a config that has one leaves it open."""
    if "experiment_name" in config:
        config["experiment_name"] = config["experiment_name"] or experiment(Path(config["bundle_root"]).name)


def _defined(files: Any) -> dict[str, Any]:
    """Return what the config files define, blocks of other files in their place."""
    parser = ConfigParser(ConfigParser.load_config_files(files) if files else {})
    parser.resolve_macro_and_relative_ids()
    return with_bases(parser.config)


def _check_values(parser: ConfigParser) -> None:
    def value_of(name: str) -> Any:
        value = parser.config[name]
        return _content(parser, name) if is_expression(value) else value

    parser.parse(True)
    check_values(value_of, parser.config)


def _content(parser: ConfigParser, name: str) -> Any:
    try:
        return parser.get_parsed_content(name)
    except Exception as error:  # an expression, or what builds a component, may raise anything
        value = str(parser.config[name])
        shown = value if len(value) < 80 else f"{value[:76]} …"
        raise user_error(error) or UserError(
            f"{name}: {shown!r} cannot be computed: {in_one_line(error)}"
        ) from error


def running_parser() -> ConfigParser:
    """Return the parser of the ``ConfigWorkflow`` that is running this expression.

    MONAI gives an expression no way to its own config, so the workflow is looked for among the callers.
    """
    return _running().parser


def _running() -> ConfigWorkflow:
    for frame in _callers():
        if isinstance(workflow := frame.f_locals.get("self"), ConfigWorkflow):
            return workflow
    raise RuntimeError("this is meant to be called by an expression of a bundle that `monai.bundle run` runs")


def _invocation() -> tuple[Any, dict[str, Any]]:
    """Return the config files and the overrides that ``monai.bundle``'s entry point was called with.

    Both are empty where a program has made the ``ConfigWorkflow`` itself.
    """
    for frame in _callers():
        if frame.f_code.co_name == "create_workflow" and "_args" in frame.f_locals:
            overrides = {k: v for k, v in frame.f_locals["_args"].items() if k not in _NOT_IDS}
            return frame.f_locals["config_file"], overrides
    return None, {}


def _callers() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def config_of(run_dir: Path, bundle_root: str) -> dict[str, Any]:
    """Return the config of a run folder; refuse one that is damaged or of another bundle."""
    path = run_dir / CONFIG
    try:
        config = ConfigParser.load_config_file(path)
        theirs = config["bundle_root"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged or no run's config ({type(error).__name__}). Use another run."
        ) from error
    if theirs != bundle_root:
        raise UserError(
            f"{run_dir} is a run of {theirs}, not of {bundle_root}. Use that bundle, or another run."
        )
    return config


def _with_password(stored: Any, current: Any) -> dict[str, str]:
    """Return the store's address of now where a run's is the same but for the password, which no run keeps."""
    return {"tracking_uri": str(current)} if stored and redacted(str(current)) == stored else {}


def write_config(config: Mapping[str, Any], run_dir: Path) -> None:
    """Write the config of a run into its folder.

    Raises:
        UserError: when the folder cannot be written.
    """
    content = {name: value for name, value in config.items() if name != "_meta_"} | {"run_dir": None}
    if "tracking_uri" in content:
        content["tracking_uri"] = redacted(str(content["tracking_uri"]))
    try:
        write_text(run_dir / CONFIG, yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True))
    except OSError as error:
        raise UserError(f"Cannot write {run_dir / CONFIG}: {error.strerror}. Mend the folder.") from error
