"""Fetching data sets, against a server of our own that misbehaves on request."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import pipelines.download
import pipelines.fetch
from pipelines.download import check_space, download
from pipelines.errors import UserError
from pipelines.fetch import fetch_atrium, unpack

BODY = random.Random(0).randbytes(700_000)  # noqa: S311, not a secret; several pieces long


def md5_of(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Server:
    """Serves ``body``; ``script`` holds how each coming request is to be treated, "" being well."""

    def __init__(self):
        self.body, self.etag, self.modified = BODY, '"one"', ""
        self.script, self.requests = [], []
        self.ignore_range = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.close_connection = True
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/Task02_Heart.tar"
        threading.Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler):
        self.requests.append(dict(handler.headers))
        how = self.script.pop(0) if self.script else ""
        if isinstance(how, int):
            handler.send_error(how)
            return
        start = self.start_of(handler)
        if start is not None and start >= len(self.body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(200 if start is None else 206)
        content = self.body[start or 0 :]
        if start is not None:
            shown = 0 if how == "wrong range" else start
            handler.send_header("Content-Range", f"bytes {shown}-{len(self.body) - 1}/{len(self.body)}")
        for name, value in (("ETag", self.etag), ("Last-Modified", self.modified)):
            if value:
                handler.send_header(name, value)
        if how != "no length":
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2] if how == "break" else content)

    def start_of(self, handler):
        """Return where an honoured range starts, or None for the whole file."""
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        condition = handler.headers.get("If-Range")
        if not asked or self.ignore_range or (condition and condition not in (self.etag, self.modified)):
            return None
        return int(asked[1])


@pytest.fixture
def server():
    server = Server()
    yield server
    server.httpd.shutdown()
    server.httpd.server_close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(pipelines.download, "PAUSE_S", 0.0)


def tar_of(path, members):
    """Write a tar of (name, content or a TarInfo's type[, link name]) and return its bytes."""
    with tarfile.open(path, "w") as tar:
        for name, content, *link in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content.encode()))
            else:
                info.type, info.linkname = content, link[0] if link else ""
                tar.addfile(info)
    return Path(path).read_bytes()


CASE = {"image": "./imagesTr/la_003.nii.gz", "label": "./labelsTr/la_003.nii.gz"}
WHOLE = [
    ("Task02_Heart", tarfile.DIRTYPE),
    ("Task02_Heart/dataset.json", json.dumps({"name": "LeftAtrium", "training": [CASE]})),
    ("Task02_Heart/imagesTr/la_003.nii.gz", "image"),
    ("Task02_Heart/labelsTr/la_003.nii.gz", "label"),
    ("._Task02_Heart", "resource fork"),
    ("Task02_Heart/imagesTr/._la_003.nii.gz", "resource fork"),
]
TREE = {"dataset.json", "imagesTr/la_003.nii.gz", "labelsTr/la_003.nii.gz"}


def tree(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


# download


def test_a_download_is_the_file_and_leaves_nothing_beside_it(server, tmp_path):
    path = download(server.url, tmp_path / "new" / "file.tar", md5_of(BODY))
    assert path.read_bytes() == BODY
    assert tree(tmp_path) == {"new/file.tar"}


def test_a_file_that_is_there_is_verified_and_not_asked_for_again(server, tmp_path):
    (tmp_path / "file").write_bytes(BODY)
    download(server.url, tmp_path / "file", md5_of(BODY).upper())
    assert server.requests == []
    (tmp_path / "file").write_bytes(b"by hand, but cut")
    with pytest.raises(UserError, match=r"wrong checksum of .*file \(16 bytes\)(.|\n)*remove .*file and run"):
        download(server.url, tmp_path / "file", md5_of(BODY))
    assert (tmp_path / "file").exists()


def test_a_broken_connection_is_resumed_where_it_broke(server, tmp_path, capfd):
    server.script = ["break", "break"]
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY
    starts = [int(r.get("Range", "bytes=0-")[6:-1]) for r in server.requests]
    assert starts[0] == 0 < starts[1] < starts[2]
    assert starts[1] > len(BODY) // 2 - 2 * pipelines.download.PIECE
    assert server.requests[1]["If-Range"] == '"one"'
    assert capfd.readouterr().err.count("again in 0 s") == 2


def test_a_later_run_continues_what_a_killed_one_left(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pipelines.download, "ATTEMPTS", 1)
        server.script = ["break"]
        with pytest.raises(UserError, match="cannot download"):
            download(server.url, tmp_path / "file", md5_of(BODY))
    assert tree(tmp_path) == {"file.part", "file.part.version"}
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY
    assert server.requests[1]["Range"] != "bytes=0-"
    assert tree(tmp_path) == {"file"}


def test_a_server_that_ignores_ranges_sends_the_file_anew(server, tmp_path):
    server.ignore_range, server.script = True, ["break"]
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY


def test_a_server_that_ignores_ranges_and_always_breaks_is_given_up(server, tmp_path):
    server.ignore_range, server.script = True, ["break"] * 99
    with pytest.raises(UserError, match="cannot download"):
        download(server.url, tmp_path / "file", md5_of(BODY))
    assert len(server.requests) == pipelines.download.ATTEMPTS


def test_a_part_of_an_older_file_is_not_continued_with_a_newer_one(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"old" * 1000)
    (tmp_path / "file.part.version").write_text('"zero"')
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY
    assert [r.get("If-Range") for r in server.requests] == ['"zero"']


def test_a_weak_etag_is_not_trusted_with_a_range_but_the_date_is(server, tmp_path):
    server.etag, server.modified = 'W/"one"', "Mon, 01 Jan 2024 00:00:00 GMT"
    server.script = ["break"]
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY
    assert server.requests[1]["If-Range"] == server.modified


def test_a_server_without_etag_date_and_length_will_do(server, tmp_path):
    server.etag, server.script = "", ["break", "no length"]
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY
    assert "If-Range" not in server.requests[1]


@pytest.mark.parametrize("surplus", [b"", b"more"])
def test_a_part_of_full_size_or_more_is_settled_by_416(server, tmp_path, surplus):
    (tmp_path / "file.part").write_bytes(BODY + surplus)
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY
    assert len(server.requests) == (2 if surplus else 1)


def test_an_answer_with_another_range_than_asked_for_is_not_appended(server, tmp_path):
    server.script = ["break", "wrong range"]
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY


def test_a_wrong_checksum_removes_the_download_and_says_what_came(server, tmp_path):
    expected = md5_of(b"another file")
    with pytest.raises(UserError) as raised:
        download(server.url, tmp_path / "file", expected)
    assert f"expected MD5 {expected}, got {md5_of(BODY)}" in str(raised.value)
    assert f"the download of {server.url} was removed; try again" in str(raised.value)
    assert "file" not in tree(tmp_path)
    assert "file.part" not in tree(tmp_path)
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY


def test_a_404_is_told_at_once_with_the_way_by_hand(server, tmp_path):
    server.script = [404] * 9
    with pytest.raises(UserError) as raised:
        download(server.url, tmp_path / "file", md5_of(BODY))
    assert str(raised.value) == (
        f"cannot download {server.url}:\nHTTP 404 Not Found;\n"
        f"by hand: download it to {tmp_path / 'file'} and run the same command again"
    )
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.script = [503, 429]
    assert download(server.url, tmp_path / "file", md5_of(BODY)).read_bytes() == BODY


def test_nothing_listening_is_named_after_a_few_attempts(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x.tar"
        with pytest.raises(UserError, match=r"cannot download http.*x\.tar:\n.*Connection refused;\nby hand"):
            download(url, tmp_path / "file", md5_of(BODY))
    assert tree(tmp_path) == set()


def test_a_server_that_falls_silent_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(pipelines.download, "TIMEOUT_S", (1, 0.1))
    monkeypatch.setattr(pipelines.download, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.tar"
        with pytest.raises(UserError, match="Read timed out"):
            download(url, tmp_path / "file", md5_of(BODY))


@pytest.mark.parametrize("url", ["x.tar", "gopher://127.0.0.1/x.tar"])
def test_what_is_no_url_is_answered_in_three_lines(url, tmp_path):
    with pytest.raises(UserError, match=f"cannot download {url}") as raised:
        download(url, tmp_path / "file", md5_of(BODY))
    assert str(raised.value).count("\n") == 2


def test_a_full_disk_is_told_before_the_first_byte_and_keeps_the_part(server, tmp_path, monkeypatch):
    (tmp_path / "file.part").write_bytes(BODY[:1000])
    usage = type("Usage", (), {"free": 500_000})
    monkeypatch.setattr(pipelines.download.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"needs 1 MB of free disk, has 0 MB; make room"):
        download(server.url, tmp_path / "file", md5_of(BODY))
    assert (tmp_path / "file.part").read_bytes() == BODY[:1000]
    check_space(tmp_path, 500_000)


def test_an_unwritable_place_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/below/x: (File exists|Not a directory);\nmend"):
        download(server.url, tmp_path / "file" / "below" / "x", md5_of(BODY))


# unpack


def test_an_archive_becomes_the_target_without_its_own_top_name_and_mac_files(tmp_path):
    tar_of(tmp_path / "a.tar", WHOLE)
    unpack(tmp_path / "a.tar", tmp_path / "deep" / "mine")
    assert tree(tmp_path / "deep") == {f"mine/{name}" for name in TREE}
    assert (tmp_path / "deep/mine/imagesTr/la_003.nii.gz").read_text() == "image"


def test_leading_dots_empty_folders_and_compression_are_understood(tmp_path):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        for name in (".", "./Top", "./Top/imagesTs"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o000
            tar.addfile(info)
    unpack(tmp_path / "a.tgz", tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == [tmp_path / "mine" / "imagesTs"]
    assert list((tmp_path / "mine" / "imagesTs").iterdir()) == []


@pytest.mark.parametrize(
    "member",
    [
        ("../x", "out"),
        ("Task02_Heart/../../x", "out"),
        ("/x", "out"),
        ("Task02_Heart/..\\..\\x", "out"),
        ("C:/x", "out"),
        ("Task02_Heart/link", tarfile.SYMTYPE, "/etc"),
        ("Task02_Heart/link", tarfile.SYMTYPE, "dataset.json"),
        ("Task02_Heart/link", tarfile.LNKTYPE, "Task02_Heart/dataset.json"),
        ("Task02_Heart/._link", tarfile.SYMTYPE, "/etc"),
        ("Task02_Heart/device", tarfile.CHRTYPE),
        ("Task02_Heart/disk", tarfile.BLKTYPE),
        ("Task02_Heart/pipe", tarfile.FIFOTYPE),
    ],
)
def test_a_malicious_member_refuses_the_whole_archive(member, tmp_path):
    (tmp_path / "in").mkdir()
    tar_of(tmp_path / "in" / "a.tar", [*WHOLE, member])
    with pytest.raises(UserError, match=r"a\.tar is unsafe, nothing was unpacked:\n(neither a reg|a path)"):
        unpack(tmp_path / "in" / "a.tar", tmp_path / "in" / "mine")
    assert tree(tmp_path) == {"in/a.tar"}


def test_names_that_claim_a_file_and_a_folder_leave_nothing(tmp_path):
    tar_of(tmp_path / "a.tar", [("T/a", "file"), ("T/a/b", "in a file")])
    with pytest.raises(UserError, match=r"cannot unpack .*mine: (File exists|Not a directory)"):
        unpack(tmp_path / "a.tar", tmp_path / "mine")
    assert tree(tmp_path) == {"a.tar"}


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([("one/x", "1"), ("two/x", "2")], r"\['one', 'two'\]"),
        ([("file", "no folder")], r"\['file'\]"),
        ([], r"\[\]"),
    ],
)
def test_an_archive_without_one_top_folder_is_refused(members, found, tmp_path):
    tar_of(tmp_path / "a.tar", members)
    with pytest.raises(UserError, match=f"expected one top folder in .*, found {found};"):
        unpack(tmp_path / "a.tar", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("damage", ["cut", "cut gzip", "flipped gzip", "no tar"])
def test_a_broken_archive_is_named_and_nothing_looks_whole(damage, tmp_path):
    content = tar_of(tmp_path / "a.tar", [("T/x", "x" * 50_000), ("T/y", "y" * 50_000)])
    if damage == "no tar":
        content = BODY
    elif damage == "cut":
        content = content[:70_000]
    else:
        with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
            info = tarfile.TarInfo("T/x")
            info.size = 2 * len(BODY)
            tar.addfile(info, io.BytesIO(BODY.hex().encode()))  # compressible, so that damage shows
        content = bytearray((tmp_path / "a.tar").read_bytes())
        if damage == "cut gzip":
            del content[len(content) // 2 :]
        else:
            content[300_000:300_400] = bytes(400)
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tar is no whole tar|cannot unpack") as raised:
        unpack(tmp_path / "a.tar", tmp_path / "mine")
    assert str(raised.value).count("\n") <= 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


def test_a_target_with_files_is_kept(tmp_path):
    tar_of(tmp_path / "a.tar", WHOLE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("mine")
    with pytest.raises(UserError, match=r"cannot unpack .* Directory not empty"):
        unpack(tmp_path / "a.tar", tmp_path / "mine")
    assert tree(tmp_path) == {"a.tar", "mine/thesis"}


def test_an_archive_larger_than_the_disk_is_not_begun(tmp_path, monkeypatch):
    tar_of(tmp_path / "a.tar", WHOLE)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(pipelines.download.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match="of free disk"):
        unpack(tmp_path / "a.tar", tmp_path / "mine")
    assert tree(tmp_path) == {"a.tar"}


# fetch


@pytest.fixture
def heart(server, tmp_path_factory):
    """Return the server with the whole archive, and its MD5."""
    server.body = tar_of(tmp_path_factory.mktemp("tar") / "a.tar", WHOLE)
    return server, md5_of(server.body)


def test_fetch_makes_the_data_set_and_a_second_fetch_asks_for_nothing(heart, tmp_path, capsys):
    server, md5 = heart
    target = tmp_path / "data" / "Task02_Heart"
    assert fetch_atrium(target, server.url, md5) == target
    assert tree(tmp_path) == {f"data/Task02_Heart/{name}" for name in TREE}
    assert fetch_atrium(target, server.url, md5) == target
    assert f"{target} is already there: 1 labelled cases." in capsys.readouterr().out
    assert len(server.requests) == 1


def test_an_archive_brought_by_hand_is_used_and_kept(heart, tmp_path):
    server, md5 = heart
    (tmp_path / "Task02_Heart.tar").write_bytes(server.body)
    fetch_atrium(tmp_path / "mine", server.url, md5)
    assert server.requests == []
    assert (tmp_path / "Task02_Heart.tar").exists()


def test_an_unpacking_that_is_killed_leaves_nothing_that_looks_whole(heart, tmp_path, monkeypatch):
    server, md5 = heart
    copied = []

    def killed_at_the_second_file(source, file):
        copied.append(file.write(source.read()))
        if len(copied) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipelines.fetch.shutil, "copyfileobj", killed_at_the_second_file)
        with pytest.raises(KeyboardInterrupt):
            fetch_atrium(tmp_path / "mine", server.url, md5)
    assert not (tmp_path / "mine").exists()
    fetch_atrium(tmp_path / "mine", server.url, md5)
    assert tree(tmp_path / "mine") == TREE
    assert len(server.requests) == 1  # the archive was whole already


@pytest.mark.parametrize("missing", sorted(TREE))
def test_a_folder_that_is_not_whole_is_refused_and_kept(heart, tmp_path, missing):
    server, md5 = heart
    fetch_atrium(tmp_path / "mine", server.url, md5)
    (tmp_path / "mine" / missing).unlink()
    with pytest.raises(UserError, match=r"mine is there but is no whole data set:\n.*;\nmove it") as raised:
        fetch_atrium(tmp_path / "mine", server.url, md5)
    assert str(raised.value).count("\n") == 2
    assert tree(tmp_path / "mine") == TREE - {missing}


def test_a_phantom_is_not_taken_for_the_real_data(tmp_path):
    from pipelines.phantoms.atrium import write_phantom

    write_phantom(tmp_path / "mine", cases=1, size=(16, 16, 8))
    with pytest.raises(UserError, match="mine holds a phantom, not the real data set;\nmove it away"):
        fetch_atrium(tmp_path / "mine")


def test_an_empty_folder_is_filled(heart, tmp_path):
    (tmp_path / "mine").mkdir()
    fetch_atrium(tmp_path / "mine", heart[0].url, heart[1])
    assert tree(tmp_path / "mine") == TREE


def test_address_and_checksum_are_those_monai_names(tmp_path, monkeypatch):
    asked = []

    def pretend(url, archive, md5):
        asked.extend((url, archive, md5))
        archive.touch()
        return archive

    monkeypatch.setattr(pipelines.fetch, "download", pretend)
    monkeypatch.setattr(pipelines.fetch, "unpack", lambda archive, target: None)
    fetch_atrium(tmp_path / "mine")
    url, archive, md5 = asked
    assert url == "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task02_Heart.tar"
    assert archive == tmp_path / "Task02_Heart.tar"
    assert md5 == "06ee59366e1e5124267b774dbd654057"
