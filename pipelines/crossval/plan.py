"""What a cross-validation is: its folds, who validates in each, and its settings, kept in ``crossval.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipelines.crossval.folds import draw_folds, draw_validation
from pipelines.datasets.datalist import Case, dataset_hash
from pipelines.errors import UserError
from pipelines.files import sha256_json, write_json
from pipelines.registry import Bundle
from pipelines.runs import CROSSVAL, read_json
from pipelines.settings import RESUMABLE

# what of the settings may change while the folds stay comparable: where it is computed, not what
MACHINE = RESUMABLE - {"max_epochs", "val_interval"}
# set for each fold, or of the folder itself
_OWN = {"run_dir", "resume", "run_name", "output_dir", "train_cases", "val_cases", "_meta_"}


@dataclass(frozen=True)
class Plan:
    """A cross-validation before any fold is trained.

    Attributes:
        bundle: such as "atrium".
        name: of its folder.
        folds: how many.
        seed: that the folds were drawn with.
        last: whether a fold is scored with the weights after its last epoch.
        hash: of the folds, of who validates and of the data: the same for the same split of the same data.
        dataset: ``dir`` (the folder's name), ``hash`` and ``cases``.
        overrides: the settings that were given.
        folds_of: case to fold, from 1.
        validates: fold, as text, to the cases that validate in it; none where the held-out cases do, once, after the
            last epoch.
    """

    bundle: str
    name: str
    folds: int
    seed: int
    last: bool
    hash: str
    dataset: dict[str, Any]
    overrides: dict[str, Any]
    folds_of: dict[str, int]
    validates: dict[str, list[str]]

    def write(self, folder: Path) -> None:
        """Write ``crossval.json``; where runs are recorded may hold a password, and is left out."""
        told = {name: value for name, value in self.overrides.items() if name != "tracking_uri"}
        write_json(folder / CROSSVAL, asdict(self) | {"overrides": told})

    def sides(self, fold: int) -> dict[str, list[str]]:
        """Return the names of the cases that ``train``, ``val`` (validate) and are ``held_out`` in ``fold``."""
        held_out = [name for name, of in self.folds_of.items() if of == fold]
        val = self.validates.get(str(fold), held_out)
        aside = {*held_out, *val}
        return {
            "train": [name for name in self.folds_of if name not in aside],
            "val": val,
            "held_out": held_out,
        }

    @property
    def part(self) -> str:
        """The part of a fold's split that is scored."""
        return "test" if self.validates else "val"


def draw_plan(
    bundle: Bundle,
    name: str,
    cases: Sequence[Case],
    settings: Mapping[str, Any],
    overrides: Mapping[str, Any],
    folds: int = 5,
    seed: int = 0,
    last: bool = False,
) -> Plan:
    """Draw the folds of a cross-validation, and who validates in each.

    Args:
        bundle: the task.
        name: of the folder.
        cases: of the data set.
        settings: ``dataset_dir`` of the config.
        overrides: what was given; ``val_cases`` of it is how many patients validate in a fold.
        folds: how many.
        seed: of the folds and of who validates.
        last: see :class:`Plan`.

    Raises:
        UserError: see :func:`draw_folds` and :func:`draw_validation`.
    """
    folds_of = draw_folds(cases, folds, seed, bundle.strata)
    validates = {}
    if bundle.calibrates or not last:
        count = _count(overrides.get("val_cases"))
        for fold in range(1, folds + 1):
            others = [case for case in cases if folds_of[case["case"]] != fold]
            validates[str(fold)] = draw_validation(others, count, seed + fold, bundle.strata)
    folds_of = {case["case"]: folds_of[case["case"]] for case in cases}
    digest = dataset_hash(cases)
    return Plan(
        bundle=bundle.name,
        name=name,
        folds=folds,
        seed=seed,
        last=last,
        hash=sha256_json([folds_of, validates, digest]),
        dataset={"dir": Path(settings["dataset_dir"]).absolute().name, "hash": digest, "cases": len(cases)},
        overrides=dict(overrides),
        folds_of=folds_of,
        validates=validates,
    )


def _count(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise UserError(
        f"val_cases must be how many of the patients that a fold does not hold out validate, got {value!r}"
    )


def fold_dir(folder: Path, fold: int) -> Path:
    """Return the run folder of a fold, from 1."""
    return folder / f"fold_{fold}"


def read_plan(folder: Path) -> Plan:
    """Return the plan that :meth:`Plan.write` wrote.

    Raises:
        UserError: there is none, or it is damaged.
    """
    content, nested = read_json(folder / CROSSVAL), ("dataset", "overrides", "folds_of", "validates")
    names = [field.name for field in fields(Plan)]
    if not all(name in content for name in names) or not all(
        isinstance(content[name], dict) for name in nested
    ):
        raise UserError(
            f"{folder / CROSSVAL} is missing or damaged, so {folder} is no cross-validation to go on with.\n"
            "Choose another --name."
        )
    return Plan(**{name: content[name] for name in names})


def require_same(folder: Path, plan: Plan, config: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Refuse to go on with a cross-validation that was begun with other folds, data or settings.

    Args:
        folder: that was begun.
        plan: as it is now.
        config: the training's settings as they are now.
        stored: those that it was begun with.

    Raises:
        UserError: says what differs.
    """
    differs = [*_differences(read_plan(folder), plan), *changed_settings(stored, config)]
    if differs:
        shown = "; ".join(differs[:4]) + (f" (and {len(differs) - 4} more)" if len(differs) > 4 else "")
        raise UserError(
            f"{folder} was begun with something else: {shown}.\nGive what it was begun with, or another --name."
        )


def _differences(begun: Plan, plan: Plan) -> list[str]:
    options = {"folds": "folds", "fold_seed": "seed", "last": "last"}
    values = {option: (getattr(begun, name), getattr(plan, name)) for option, name in options.items()}
    differs = [f"{option} was {old} and is {new}" for option, (old, new) in values.items() if old != new]
    before, now = set(begun.folds_of), set(plan.folds_of)
    if lost := sorted(before - now):
        differs.append(f"{len(lost)} of its cases are gone from the data set, such as '{lost[0]}'")
    if new := sorted(now - before):
        differs.append(f"{len(new)} cases of the data set are new, such as '{new[0]}'")
    if before == now and begun.dataset["hash"] != plan.dataset["hash"]:
        differs.append("the files or tables of the data set have changed")
    if not differs and begun.hash != plan.hash:
        differs.append("other cases are held out or validate (val_cases, or the patients' table)")
    return differs


def changed_settings(stored: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Return a text about each setting that differs and may change what comes out."""
    names = [name for name in {**stored, **config} if name not in MACHINE | _OWN]
    pairs = [(name, stored.get(name), config.get(name)) for name in names]
    return [f"{name} was {_short(old)} and is {_short(new)}" for name, old, new in pairs if old != new]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
