"""The settings of a bundle: which there are, what values they take, and which of them a resumed run may change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipelines.blocks import names_in
from pipelines.engines import ENGINES
from pipelines.errors import UserError, nearest
from pipelines.evaluation.classification import OPERATING_POINTS
from pipelines.precision import PRECISIONS

# ids of a config that are not settings
_WIRING = {"_meta_", "imports", "initialize", "run", "finalize", "bundle_root", "run_dir", "trained_with"}
# ids that Python code, MONAI, or other tools that load a bundle read by name, so that no `@id` needs to point at them
_BY_NAME = _WIRING | {
    "dataset_dir",
    "device",
    "network_def",
    "train",
    "validate",
    "max_epochs",
    "val_interval",
}
_BY_NAME |= {"dataset", "evaluator", "inferer", "handlers", "preprocessing", "postprocessing", "key_metric"}
_BY_NAME |= {"resume", "run_name", "output_dir", "ckpt_path", "runs_dir"}

# what a resumed run may change without becoming another experiment
RESUMABLE = {
    "max_epochs",
    "val_interval",
    "device",
    "num_workers",
    "memory_limit_gb",
    "cache_dir",
    "dataset_dir",
    "tracking_uri",
}


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_device(value: Any) -> bool:
    import torch

    try:
        torch.empty(0, device=value)
    except (RuntimeError, AssertionError, TypeError, ValueError):
        return False
    return True


def _is_list_of(holds: Callable[[Any], Any], value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(holds, value))


def _is_path(value: Any) -> bool:
    return value is None or _is_text(value) or _is_list_of(_is_text, value)


_COUNT = (lambda v: _is_whole(v, 1), "a whole number above 0")
_FROM_ZERO = (lambda v: _is_whole(v, 0), "a whole number from 0")
_SHARE = (lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
_FOLDER = (lambda v: v is None or _is_text(v), "a folder")
_EXPECTED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "max_epochs": _COUNT,
    "batch_size": _COUNT,
    "val_interval": _COUNT,
    "num_workers": (lambda v: v is None or _is_whole(v, 0), "null or a whole number from 0"),
    "seed": _FROM_ZERO,
    "lr": (lambda v: _is_number(v) and 0 < v < 10, "a number above 0, e.g. 1e-3"),
    "memory_limit_gb": (lambda v: _is_number(v) and v >= 0, "a number of gigabytes from 0"),
    "ema_momentum": (lambda v: _is_number(v) and 0 < v < 1, "a number between 0 and 1"),
    "empty_share": _SHARE,
    "labelled_share": _SHARE,
    "field_of_view": (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0, up to 1"),
    "pixdim": (lambda v: _is_number(v) and 0.2 <= v <= 10, "a number of mm from 0.2 to 10"),
    "precision": ((None, *PRECISIONS).__contains__, f"null or one of {', '.join(PRECISIONS)}"),
    "size": (lambda v: _is_whole(v, 32), "a whole number of pixels from 32"),
    "threads": _COUNT,
    "pos_weight": (lambda v: _is_number(v) and 0 < v <= 1000, "a number above 0, up to 1000"),
    "weight_decay": (lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to 1"),
    "flip_prob": _SHARE,
    "operating_point": (OPERATING_POINTS.__contains__, f"one of {', '.join(OPERATING_POINTS)}"),
    "pretrained": (_FOLDER[0], "a file"),
    "patients": (_FOLDER[0], "a table's file"),
    "cache_dir": (_is_text, "a folder"),
    "thorax": (lambda v: v in (None, True, False), "True, False, or None for what the data set has"),
    "criterion": (("mse", "smooth_l1_giou").__contains__, "mse or smooth_l1_giou"),
    "rotate": (lambda v: _is_number(v) and 0 <= v <= 45, "a number of degrees from 0 to 45"),
    "shift": (lambda v: _is_number(v) and 0 <= v <= 0.5, "a number from 0 to 0.5"),
    "scale": (
        lambda v: _is_list_of(_is_number, v) and len(v) == 2 and 0.5 <= v[0] <= v[1] <= 2,
        "two numbers from 0.5 to 2, the lower one first, e.g. [0.8,1.2]",
    ),
    "engine": (ENGINES.__contains__, f"one of {', '.join(ENGINES)}"),
    "patch_size": (
        lambda v: _is_list_of(_COUNT[0], v) and len(v) == 3,
        "three whole numbers above 0, along X, Y and Z, e.g. [128,96,64]",
    ),
    "planes": (lambda v: _is_list_of((0, 1, 2).__contains__, v), "a list of axes from 0 to 2, e.g. [2]"),
    "slice_offsets": (
        lambda v: _is_list_of(lambda n: isinstance(n, int), v),
        "a list of whole numbers, e.g. [-1,0,1]",
    ),
    "dataset_dir": (_is_path, "a path"),
    "ckpt_path": (_is_path, "a .pt file or a run folder, or a list of these"),
    "output_dir": _FOLDER,
    "resume": (_FOLDER[0], "a run folder"),
    "run_name": (_FOLDER[0], "a name that is not a number alone"),
    "device": (_is_device, "one that this machine has, e.g. cpu"),
}


def is_expression(value: Any) -> bool:
    """Whether a config's value is computed (``$``) or taken from elsewhere (``@``, ``%``)."""
    return isinstance(value, str) and value[:1] in ("$", "@", "%")


def check_values(value_of: Callable[[str], Any], names: Mapping[str, Any]) -> None:
    """Raise UserError for the first setting whose value is of no use, naming what is expected.

    Args:
        value_of: gives the value of a root id.
        names: the config, or its root ids.
    """
    for name, (holds, expected) in _EXPECTED.items():
        if name in names and not holds(value := value_of(name)):
            raise UserError(f"{name} must be {expected}, got {value!r}.")


def refuse_unknown(
    config: Mapping[str, Any], overrides: Mapping[str, Any], defined: Mapping[str, Any]
) -> None:
    """Raise UserError for an override that the config files do not define, and for a root id that nothing uses.

    MONAI takes any ``--name value`` into the config, so ``--max_epoch 1`` would be without effect.

    Args:
        config: the config with its overrides.
        overrides: id to value, as given on the command line; ``train#trainer#amp`` reaches into a block.
        defined: what the config files define; empty where that is not known.
    """
    for name in overrides:
        if defined:
            _require_defined(name, defined)
    # by the files as well: an override may have taken a setting's last use away
    texts = [*_strings(config), *_strings(defined)]
    used = {name for text in texts for name in re.findall(r"@(\w+)", text)} | _BY_NAME
    for name in config:
        if name not in used:
            raise _unknown(name, [known for known in config if known in used])


def _require_defined(name: str, defined: Mapping[str, Any]) -> None:
    """Follow an id into the config."""
    block: Any = defined
    steps = split_id(name)
    for depth, step in enumerate(steps):
        if (names := names_in(block)) is None:
            return
        if step not in names:
            raise _unknown("::".join(steps[: depth + 1]), ["::".join([*steps[:depth], key]) for key in names])
        block = block[int(step)] if isinstance(block, list) else block.get(step)


def split_id(name: str) -> list[str]:
    """Return the steps of an id, e.g. ``["train", "trainer"]`` of "train#trainer" and "+train::trainer"."""
    return re.split("#|::", name.lstrip("+"))


def _unknown(name: str, known: list[str]) -> UserError:
    last = {other: other.split("::")[-1] for other in known}
    settings = [other for other in last if last[other] not in _WIRING and last[other][:1] != "_"]
    return UserError(
        f"There is no setting '{name}'{nearest(name, settings)}\nKnown: {', '.join(sorted(settings))}."
    )


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping | list):
        for value in content.values() if isinstance(content, Mapping) else content:
            yield from _strings(value)


def resumed(stored: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a run's own config with what may change replaced, and a line about each change.

    Args:
        stored: the run's config.
        given: id to value of what was given anew.

    Raises:
        UserError: when another value is given for a setting that makes the run what it is.
    """
    config, told = dict(stored), []
    for name, value in given.items():
        if name == "resume" or (name in stored and stored[name] == value):
            continue
        if name not in RESUMABLE:
            raise UserError(
                f"{name} cannot change when a run is resumed: leave --{name} away, or start a new run.\n"
                f"These can: {', '.join(sorted(RESUMABLE))}."
            )
        told.append(f"Resuming with {name} = {value} instead of {stored.get(name)}.")
        config[name] = value
    return config, told


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config that are plain values or lists of them, for a record of a run."""
    skipped = _WIRING | {"resume"}
    return {name: value for name, value in config.items() if name not in skipped and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(part) for part in value)
    return not isinstance(value, dict) and not is_expression(value)
