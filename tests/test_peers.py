"""Claims about the programs that measure other libraries: these stay outside of this project, and turns are fair."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from test_project import ROOT, imported_packages

PEERS = {"torchio", "torchxrayvision", "nnunetv2"}
SCRIPTS = ROOT / "scripts/peers"
# a side that says which time it was asked: 1, 2, 3 …, times a factor
COUNTING = """
import itertools, sys
sys.path.insert(0, {scripts!r})
from side import answer
count = itertools.count()
answer(lambda: next(count) * {factor})
"""


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPTS / script, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


def counting(factor: int) -> str:
    return shlex.join([sys.executable, "-c", COUNTING.format(scripts=str(SCRIPTS), factor=factor)])


def test_no_peer_is_imported_by_the_packages_or_the_tests() -> None:
    files = [
        path for folder in ("pipelines", "transforms", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    assert files
    assert {path.name: found for path in files if (found := imported_packages(path) & PEERS)} == {}


def test_no_peer_is_a_dependency() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob("requirements*.txt")]
    texts += [value for section in setup for value in setup[section].values()]
    assert texts
    assert {peer for peer in PEERS for text in texts if peer in text.lower()} == set()


def test_sides_warm_up_once_and_are_asked_in_turns() -> None:
    done = run("turns.py", "--rounds", 3, "--tries", 0, f"one: {counting(1)}", f"ten: {counting(10)}")
    assert done.returncode == 0, done.stderr
    one, ten = done.stdout.splitlines()[1:]
    assert one.startswith("one: 2 (1 2 3), 1 of one")  # the first call, 0, warmed up; 2 is the median
    assert ten.startswith("ten: 20 (10 20 30), 10 of one")


def test_a_side_that_fails_is_named() -> None:
    done = run("turns.py", f"broken: {sys.executable} -c 0")
    assert done.returncode == 1
    assert "broken: expected 'ready', got ''" in done.stderr


@pytest.fixture
def medical_decathlon(tmp_path: Path) -> Path:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        for case in ("la_001", "la_002", "la_003"):
            (tmp_path / "in" / folder / f"{case}.nii.gz").write_bytes(f"{folder} {case}".encode())
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("minutes", "cases", "answer"),
    [
        ("0", "la_001", "expected a number of minutes above 0, got [0.0]"),
        ("nan", "la_001", "expected a number of minutes above 0"),
        ("10,20", "la_001", "expected a number of minutes above 0, got [10.0, 20.0]"),
        ("ten", "la_001", "invalid minutes value: 'ten'"),
        ("10", "la_001,la_009", "imagesTr/la_009.nii.gz, which does not exist"),
        ("10", "la_003,la_002", "labelsTr/la_002.nii.gz, which does not exist"),
    ],
)
def test_what_cannot_be_trained_or_scored_is_refused_at_once(
    medical_decathlon: Path, tmp_path: Path, minutes: str, cases: str, answer: str
) -> None:
    (medical_decathlon / "labelsTr/la_002.nii.gz").unlink()
    done = run("bundle_minutes.py", medical_decathlon, minutes, cases, tmp_path / "out")
    assert done.returncode == 2
    assert answer in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_side_that_cannot_be_started_or_answers_no_number_is_named() -> None:
    done = run("turns.py", "gone: nosuchprogram --x")
    assert (done.returncode, "gone: cannot be started" in done.stderr) == (1, True)
    zero = run("turns.py", "--tries", 0, f"zero: {counting(0)}")
    assert (zero.returncode, "zero: expected a number above 0, got '0.0000'" in zero.stderr) == (1, True)


@pytest.mark.parametrize("option", [("--rounds", 0), ("--tries", -1)])
def test_no_rounds_or_fewer_than_no_tries_are_refused(option: tuple[str, int]) -> None:
    done = run("turns.py", *option, f"one: {counting(1)}")
    assert done.returncode == 2
    assert "expected --rounds from 1 and --tries from 0" in done.stderr


def test_nnunet_gets_the_named_cases_alone_and_their_split(medical_decathlon: Path, tmp_path: Path) -> None:
    folders = {"nnUNet_raw": str(tmp_path / "raw"), "nnUNet_preprocessed": str(tmp_path / "prepared")}
    given = ("--train", "la_001", "--val", "la_003")
    done = run("nnunet_convert.py", medical_decathlon, *given, **folders)
    assert done.returncode == 0, done.stderr
    raw = tmp_path / "raw/Dataset501_Atrium"
    assert sorted(path.name for path in (raw / "imagesTr").iterdir()) == [
        "la_001_0000.nii.gz",
        "la_003_0000.nii.gz",
    ]
    assert (raw / "labelsTr/la_003.nii.gz").read_bytes() == b"labelsTr la_003"
    assert json.loads((raw / "dataset.json").read_text())["numTraining"] == 2
    splits = json.loads((tmp_path / "prepared/Dataset501_Atrium/splits_final.json").read_text())
    assert splits == [{"train": ["la_001"], "val": ["la_003"]}]
    wrong = run("nnunet_convert.py", medical_decathlon, "--train", "nosuch", "--val", "la_003", **folders)
    assert wrong.returncode == 2
    assert "imagesTr/nosuch.nii.gz, which does not exist" in wrong.stderr
    again = run("nnunet_convert.py", medical_decathlon, *given, **folders)
    assert again.returncode == 2
    assert "holds the cases of an earlier conversion" in again.stderr
