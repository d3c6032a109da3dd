from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from pipelines.console import in_one_line, log_to, print_briefly, quiet, user_error
from pipelines.errors import UserError


def raised(error, cause=None):
    try:
        raise error from cause
    except BaseException as caught:
        return type(caught), caught, caught.__traceback__


@pytest.fixture
def log(tmp_path, untouched):
    log_to(tmp_path / "log.txt")
    return tmp_path / "log.txt"


def test_a_mistake_is_answered_with_its_message_alone(capsys):
    print_briefly(*raised(RuntimeError("Failed to evaluate …"), UserError("lr must be above 0.\nSet it.")))
    assert capsys.readouterr().err == "Error: lr must be above 0.\nSet it.\n"


def test_an_unforeseen_error_is_told_in_two_lines_and_its_traceback_goes_to_the_log(log, capsys):
    print_briefly(*raised(RuntimeError("outer"), ZeroDivisionError("division by zero")))
    assert (
        capsys.readouterr().err == f"Error: ZeroDivisionError: division by zero\nThe traceback is in {log}.\n"
    )
    assert "Traceback (most recent call last)" in log.read_text()
    assert "RuntimeError: outer" in log.read_text()


def test_without_a_log_an_unforeseen_error_shows_its_traceback(capsys):
    print_briefly(*raised(ZeroDivisionError("division by zero")))
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_ctrl_c_is_no_error(capsys):
    print_briefly(*raised(KeyboardInterrupt()))
    assert capsys.readouterr().err == "Stopped.\n"


def test_ctrl_c_while_a_training_prepares_is_told_and_one_that_was_told_is_not_told_twice(log, capsys):
    print_briefly(*raised(KeyboardInterrupt()))
    assert capsys.readouterr().err == "Stopped.\n"
    told = KeyboardInterrupt()
    told.told = True
    print_briefly(*raised(told))
    assert capsys.readouterr().err == ""


def test_a_message_of_many_lines_is_cut_to_three(capsys):
    print_briefly(*raised(UserError("a\nb\nc\nd")))
    assert capsys.readouterr().err == "Error: a\nb\nc\n"


def test_the_mistake_is_found_below_what_wraps_it():
    _, error, _ = raised(RuntimeError("outer"), raised(ValueError("inner"), UserError("mend it"))[1])
    assert str(user_error(error)) == "mend it"
    assert user_error(ValueError()) is None


@pytest.mark.parametrize(("error", "text"), [(ValueError("a\nb"), "ValueError: a"), (EOFError(), "EOFError")])
def test_an_error_fits_in_a_line(error, text):
    assert in_one_line(error) == text


def test_the_log_of_a_new_run_takes_the_place_of_the_one_before(tmp_path, log):
    logging.getLogger("x").warning("first")
    log_to(tmp_path / "second.txt")
    logging.getLogger("x").warning("second")
    assert "first" in log.read_text()
    assert "second" not in log.read_text()
    assert "WARNING x: second" in (tmp_path / "second.txt").read_text()


HOLD = (
    "import sys; from pathlib import Path; from pipelines.console import log_to; log_to(Path(sys.argv[1])); "
)


def test_a_run_folder_in_use_by_another_process_is_refused_until_that_ends(tmp_path, untouched):
    path = tmp_path / "run" / "log.txt"
    path.parent.mkdir()
    code = HOLD + "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"run is in use: another process is training in it"):
            log_to(path)
        other.kill()
    log_to(path)


def test_a_log_that_cannot_be_written_is_told(tmp_path, untouched):
    (tmp_path / "log.txt").mkdir()
    with pytest.raises(UserError, match=r"Cannot write .*log\.txt: Is a directory"):
        log_to(tmp_path / "log.txt")


def test_a_mistake_quotes_no_password():
    assert str(UserError("no answer of http://me:pw@host:5000/api")) == "no answer of http://host:5000/api"


def test_what_monai_repeats_of_the_command_line_holds_no_password():
    quiet()
    shown = []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())
    monai = logging.getLogger("monai.bundle.scripts")
    monai.addHandler(handler)
    try:
        monai.warning("> %s: %r", "tracking_uri", "http://me:pw@host:5000")
    finally:
        monai.removeHandler(handler)
    assert shown == ["> tracking_uri: 'http://host:5000'"]
