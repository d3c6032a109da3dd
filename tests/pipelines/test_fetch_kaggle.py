from __future__ import annotations

import os
import stat
import zipfile

import pytest

from pipelines.datasets.rsna import read_cases
from pipelines.errors import UserError
from pipelines.fetch_kaggle import COMPETITION, fetch_pneumonia
from pipelines.phantoms.xray import write_pneumonia_phantom


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A zip in the challenge's layout, as Kaggle gives it: files at its top."""
    folder = tmp_path_factory.mktemp("kaggle")
    write_pneumonia_phantom(folder / "data", cases=2, size=64)
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        for path in sorted((folder / "data").rglob("*")):
            if path.is_file() and path.name != "phantom.json":
                file.write(path, path.relative_to(folder / "data"))
    return folder / "a.zip"


@pytest.fixture
def client(tmp_path, monkeypatch):
    """``client(script)`` puts a command called kaggle on the path, and nothing else."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), "/bin", "/usr/bin"]))

    def install(script):
        path = tmp_path / "bin" / "kaggle"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return install


def test_without_a_client_three_lines_say_how_to_get_the_files(client, tmp_path):
    with pytest.raises(UserError) as caught:
        fetch_pneumonia(tmp_path / "data" / "rsna")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert f"https://www.kaggle.com/c/{COMPETITION}" in lines[0]
    assert lines[1] == str(tmp_path / "data" / f"{COMPETITION}.zip")


def test_the_users_own_client_is_called_and_its_archive_unpacked(client, archive, tmp_path):
    client(f'echo "$@" > {tmp_path}/called; cp {archive} {tmp_path}/data/{COMPETITION}.zip')
    target = fetch_pneumonia(tmp_path / "data" / "rsna")
    assert (tmp_path / "called").read_text() == f"competitions download -c {COMPETITION} -p {target.parent}\n"
    assert len(read_cases(target)) == 2
    assert [path.name for path in target.parent.iterdir()] == ["rsna"]


def test_a_client_that_fails_leaves_nothing_and_says_what_else_can_be_done(client, tmp_path):
    client("exit 3")
    with pytest.raises(UserError, match=r"the `kaggle` client failed, see above; or accept the rules"):
        fetch_pneumonia(tmp_path / "data" / "rsna")
    assert not (tmp_path / "data" / "rsna").exists()


def test_an_archive_brought_by_hand_is_unpacked_and_kept(client, archive, tmp_path):
    brought = tmp_path / f"{COMPETITION}.zip"
    brought.write_bytes(archive.read_bytes())
    assert len(read_cases(fetch_pneumonia(tmp_path / "rsna"))) == 2
    assert brought.exists()


def test_what_is_there_already_is_verified_and_not_fetched_again(client, archive, tmp_path, capsys):
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "rsna")
    fetch_pneumonia(tmp_path / "rsna")
    assert "already there: 2 labelled X-rays" in capsys.readouterr().out
    next((tmp_path / "rsna" / "stage_2_train_images").iterdir()).unlink()
    with pytest.raises(UserError, match="is there but is no whole data set"):
        fetch_pneumonia(tmp_path / "rsna")


def test_a_phantom_is_not_taken_for_the_real_data(client, tmp_path):
    write_pneumonia_phantom(tmp_path / "rsna", cases=2, size=64)
    with pytest.raises(UserError, match="holds a phantom, not the real data set"):
        fetch_pneumonia(tmp_path / "rsna")


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a\\b.txt", "C:out.txt"])
def test_an_archive_that_could_write_elsewhere_is_refused(client, tmp_path, name):
    with zipfile.ZipFile(tmp_path / f"{COMPETITION}.zip", "w") as file:
        file.writestr(name, "x")
    with pytest.raises(UserError, match="is unsafe, nothing was unpacked"):
        fetch_pneumonia(tmp_path / "rsna")
    assert not (tmp_path / "rsna").exists()


def test_another_or_a_broken_archive_is_refused(client, tmp_path):
    path = tmp_path / f"{COMPETITION}.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "x")
    with pytest.raises(UserError, match=r"holds no stage_2_train_labels\.csv: it is another archive"):
        fetch_pneumonia(tmp_path / "rsna")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="is no whole zip archive"):
        fetch_pneumonia(tmp_path / "rsna")
    assert not (tmp_path / "rsna").exists()
