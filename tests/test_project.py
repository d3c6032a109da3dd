"""Claims about the repository itself: its size, its pins, its configs, its layers, and what its pages link to."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
BUNDLE_CONFIGS = sorted(ROOT.glob("bundles/*/*.yaml"))
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
# folders in which people, CI machines and containers keep checkouts; a fixed path into one works on one machine alone.
# A made-up home of "someone" is the example that tests use for such a path.
MACHINE_PATH = re.compile(
    r"(?<![\w.~/-])/(?:home(?!/someone/)|Users|root|work|workspace|builds|mnt|opt|srv)/\w"
)


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def pins(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def ranges(section: str, key: str) -> list[Requirement]:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return [Requirement(line) for line in setup[section][key].splitlines() if line and line[0] != "#"]


def strings(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from strings(value)


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else node.module.partition(".")[0])
    return found


def test_every_tracked_file_is_smaller_than_500_kb() -> None:
    sizes = {path.name: path.stat().st_size for path in tracked_files()}
    assert {name: size for name, size in sizes.items() if size >= 500_000} == {}


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", errors="ignore") if path.suffix != ".png" else ""
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt", "requirements-engines.txt"])
def test_every_line_pins_one_exact_version(name: str) -> None:
    for pin in pins(name):
        assert re.fullmatch(r"==[\w.!]+", str(pin.specifier)), f"{name}: {pin}"


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize(
    ("section", "key", "locks"),
    [
        ("options", "install_requires", ["requirements.txt"]),
        ("options.extras_require", "test", ["requirements.txt", "requirements-test.txt"]),
        ("options.extras_require", "openvino", ["requirements-engines.txt"]),
        ("options.extras_require", "onnxruntime", ["requirements-engines.txt"]),
    ],
)
def test_every_dependency_has_one_pin_inside_its_range(
    section: str, key: str, locks: list[str], python: str
) -> None:
    environment = {"python_version": python}
    pinned: dict[str, list[str]] = {}
    for pin in (pin for lock in locks for pin in pins(lock)):
        if pin.marker is None or pin.marker.evaluate(environment):
            pinned.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    for wanted in ranges(section, key):
        versions = pinned.get(canonicalize_name(wanted.name), [])
        assert len(versions) == 1, f"{wanted.name} is pinned {len(versions)} times for Python {python}"
        assert wanted.specifier.contains(versions[0]), f"{wanted} excludes the pinned {versions[0]}"


def test_every_package_that_is_imported_is_a_dependency() -> None:
    imported = set().union(
        *(imported_packages(f) for p in ("pipelines", "transforms") for f in (ROOT / p).rglob("*.py"))
    )
    of_module = packages_distributions()
    imported -= sys.stdlib_module_names | {"pipelines", "transforms", "."}
    sections = [
        ("options", "install_requires"),
        *(("options.extras_require", e) for e in ("openvino", "onnxruntime")),
    ]
    wanted = {canonicalize_name(r.name) for section in sections for r in ranges(*section)}
    missing = {m for m in imported if not {canonicalize_name(d) for d in (m, *of_module.get(m, []))} & wanted}
    assert missing == set()


@pytest.mark.parametrize("path", BUNDLE_CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_expressions_in_configs_are_at_most_80_characters(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [text for text in strings(content) if text.startswith("$") and len(text) > 80] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("bundles/*/inference.yaml")), ids=lambda p: p.parent.name)
def test_inference_configs_take_nothing_from_other_files(path: Path) -> None:
    assert [t for t in strings(yaml.safe_load(path.read_text(encoding="utf-8"))) if "%" in t] == []


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("transforms", {"pipelines", "bundles", "tests", "."}), ("pipelines", {"bundles", "tests", "."})],
)
def test_a_layer_imports_nothing_above_it(package: str, forbidden: set[str]) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(f.relative_to(ROOT)): imported_packages(f) & forbidden for f in files}
    assert {name: names for name, names in wrong.items() if names} == {}


def test_bundles_hold_no_python() -> None:
    assert [path for path in tracked_files() if path.parts[-3] == "bundles" and path.suffix == ".py"] == []


@pytest.mark.parametrize("name", PAGES)
def test_relative_links_of_a_page_exist(name: str) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_the_readme_names_no_make_target_that_is_missing() -> None:
    named = set(
        re.findall(r"(?:^|`)make ([a-z]+)\b", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    rules = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"demo", "test"} <= named <= set(rules)


def test_help_imports_neither_torch_nor_monai_nor_mlflow() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "pipelines", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    for command_name in ("fetch", "phantom", "check", "predict"):
        assert command_name in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pipelines.registry" in imported
    assert imported & {"torch", "monai", "mlflow", "itk", "matplotlib", "nibabel", "numpy"} == set()
