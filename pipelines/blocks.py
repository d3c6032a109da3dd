"""Blocks of a config: those that build on another file's, and what the component in one takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pydoc import locate
from typing import Any

# MONAI replaces a text "%file::id" by the block that it names before anything of ours runs, and cannot reach into it
# while it is a text: so it stands as the one entry of a block, and what is given on the command line beside it.
BASE = "_base_"


def with_bases(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config whose root blocks with a ``_base_`` are that block, with what stands beside it in its place.

    Args:
        config: root id to block; each ``_base_`` is a dictionary, or a list whose parts are named by their index.

    A name beside ``_base_`` that the list has no part for is left out, see
    :func:`pipelines.settings.refuse_unknown`.
    """
    return {name: _with_base(block) for name, block in config.items()}


def _with_base(block: Any) -> Any:
    if not isinstance(block, dict) or BASE not in block:
        return block
    base = block[BASE]
    if isinstance(base, list):
        return [block.get(str(index), part) for index, part in enumerate(base)]
    return {**base, **{name: value for name, value in block.items() if name != BASE}}


def names_in(block: Any) -> list[str] | None:
    """Return the names that an id may go on with below ``block``, or None where anything may be meant.

    A component may be given every argument of the class or function that ``_target_`` names.
    """
    if isinstance(block, list):
        return [str(index) for index in range(len(block))]
    if not isinstance(block, dict):
        return None
    if "_target_" not in block:
        return list(block)
    arguments = _arguments(block)
    return None if arguments is None else [*block, *arguments]


def _arguments(component: dict[str, Any]) -> list[str] | None:
    from monai.bundle import ConfigComponent

    target = ConfigComponent(component).resolve_module_name()
    try:
        parameters = inspect.signature(locate(target)).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError, ImportError):  # not there, or written in C: building it will tell
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters] + sorted(ConfigComponent.non_arg_keys)
