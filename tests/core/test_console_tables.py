"""What is printed is what is written; a bar on a terminal, plain lines elsewhere; Ctrl-C says how to go on."""

import json
import os
import pty
import subprocess
import sys

import pytest

from dfdet import console

SHOW_PROGRESS = """
from dfdet.console import Progress
with Progress("indexing", 3, every_seconds=0.0) as bar:
    for _ in range(3):
        bar.advance()
"""


def test_a_table_is_printed_and_written(tmp_path, capsys):
    table = console.Table("Runs in [/x]", ["name", "AUROC"])
    table.add("[bold]a[/nothing]\\", 0.98765)
    table.add("b", None)
    table.add("c", float("nan"))
    table.notes.append("a [note]")
    console.show(table, json_file=tmp_path / "t.json")
    out = capsys.readouterr().out
    for text in ("Runs in [/x]", "[bold]a[/nothing]\\", "0.988", "a [note]"):
        assert text in out
    assert [line.split()[-1] for line in out.splitlines() if line.split()[:1] in (["b"], ["c"])] == ["-", "-"]
    (written,) = json.loads((tmp_path / "t.json").read_text())
    assert written == {
        "title": "Runs in [/x]",
        "rows": [
            {"name": "[bold]a[/nothing]\\", "AUROC": 0.98765},
            {"name": "b", "AUROC": None},
            {"name": "c", "AUROC": None},
        ],
        "notes": ["a [note]"],
    }


def test_plain_lines_where_there_is_no_terminal():
    done = subprocess.run([sys.executable, "-c", SHOW_PROGRESS], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "\x1b" not in done.stderr
    assert "indexing: 1/3" in done.stderr.splitlines()[0]
    assert "indexing: 3/3" in done.stderr.splitlines()[-1]


def test_a_bar_on_a_terminal():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", SHOW_PROGRESS], stderr=theirs, check=True, env=environment)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "3/3" in shown
    assert "━" in shown


def test_ctrl_c_is_one_line_and_exit_code_130(capsys):
    with pytest.raises(SystemExit) as ended, console.interruptible("run the same command again"):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; run the same command again\n"
