from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from pipelines.errors import UserError
from pipelines.launch import run_bundle


def write_bundle(folder, run):
    (folder / "a.yaml").write_text(
        textwrap.dedent(f"""
        imports: [$from pipelines.errors import UserError, $from pathlib import Path]
        value: 1
        run: "{run}"
        """)
    )
    return folder / "a.yaml"


def test_overrides_reach_the_bundle_and_paths_as_text(tmp_path, untouched):
    config = write_bundle(tmp_path, "$Path(@value).write_text(type(@value).__name__)")
    run_bundle(config, value=tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "str"


def test_a_mistake_comes_out_of_what_monai_wraps_it_in(tmp_path, untouched):
    with pytest.raises(UserError, match=r"^mend it$"):
        run_bundle(write_bundle(tmp_path, "$exec('raise UserError(\\\"mend it\\\")')"))


def test_another_error_comes_out_as_it_is(tmp_path, untouched):
    with pytest.raises(RuntimeError) as raised:
        run_bundle(write_bundle(tmp_path, "$1 / 0"))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_the_start_up_lines_of_monai_do_not_show(tmp_path, untouched, capfd):
    run_bundle(write_bundle(tmp_path, "$@value"), value=2)
    said = "".join(capfd.readouterr())
    assert "input summary" not in said
    assert "parsing config_file" not in said


@pytest.mark.parametrize(("chosen", "expected"), [(None, "true"), ("false", "false")])
def test_mlflow_reports_nothing_to_its_makers_unless_asked_to(monkeypatch, chosen, expected):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    if chosen:
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", chosen)
    code = "import os, pipelines; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_garbage_is_collected_again_once_monai_is_imported(tmp_path):
    config = write_bundle(tmp_path, "$open(@value, 'a').write(f'{gc.isenabled()} {gc.get_freeze_count()} ')")
    config.write_text(config.read_text().replace("imports: [", "imports: [$import gc, "))
    code = "from sys import argv; from pipelines.launch import run_bundle; "
    code += "[run_bundle(argv[1], value=argv[2]) for _ in range(2)]"
    subprocess.run([sys.executable, "-c", code, str(config), str(tmp_path / "said")], check=True)
    one, frozen, two, still = (tmp_path / "said").read_text().split()
    assert one == two == "True"
    assert int(frozen) > 100_000  # what the modules hold
    assert still == frozen  # a training that is over is not kept by the next run
