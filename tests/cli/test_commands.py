"""Every command says in no time what it is for, with an example; what it prints it also writes."""

import json
import re
import resource
import subprocess
import sys

import pytest

from dfdet.cli import COMMANDS, main

HELP = """
import sys
from dfdet.cli import main
try:
    code = main(sys.argv[1:])
finally:
    print("LOADED", *(m for m in ("torch", "lightning", "timm", "albumentations") if m in sys.modules))
"""


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS), ["index", "csv", "--help"]])
def test_help_is_short_fast_and_has_an_example(words):
    def cpu():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = cpu()
    done = subprocess.run([sys.executable, "-c", HELP, *words], capture_output=True, text=True, check=True)
    assert cpu() - before < 1.5  # a second on a machine with nothing else to do
    assert re.search(r"^LOADED$", done.stdout, re.MULTILINE)
    assert re.search(r"^example: dfdet", done.stdout, re.MULTILINE)
    assert "usage: dfdet" in done.stdout
    assert len(done.stdout.splitlines()) < 80
    assert done.stderr == ""


def test_the_help_of_index_names_the_options_of_the_corpus(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["index", "folder", "--help"])
    assert ended.value.code == 0
    assert "--group_regex" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["help"], ["-h"]])
def test_no_command_is_the_list_of_commands(words, capsys):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", out, re.MULTILINE) for name in COMMANDS)


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"dfdet \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.fixture
def runs_folder(tmp_path):
    run = tmp_path / "runs" / "swap" / "srm"
    (run / "checkpoints").mkdir(parents=True)
    (run / "scores").mkdir()
    for name in ("config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "scores/dfdc-test.parquet"):
        (run / name).touch()
    (run / "metrics.csv").write_text("epoch,step,val/video_auroc\n0,10,\n0,10,nan\n0,10,0.75\n1,20,0.8125\n2,30,nan\n2")
    (run / "thresholds.json").write_text("{}")
    (tmp_path / "runs" / "swap" / "young").mkdir()
    (tmp_path / "runs" / "swap" / "young" / "config.yaml").touch()
    return tmp_path / "runs"


def test_runs_and_how_far_they_came(runs_folder, tmp_path, capsys):
    assert main(["runs", "--root", str(runs_folder), "--json", str(tmp_path / "r.json")]) == 0
    out = capsys.readouterr().out
    ((first, second),) = (table["rows"] for table in json.loads((tmp_path / "r.json").read_text()))
    assert first == {
        "run": "swap/srm",
        "state": "finished",
        "epochs": 3,
        "best val AUROC": 0.8125,
        "checkpoints": "best, last",
        "scores": "dfdc-test",
    }
    assert (second["run"], second["state"], second["epochs"]) == ("swap/young", "not finished", 0)
    assert "0.812" in out


def commands_with_tables(tiny):
    return {"check": ["check", str(tiny / "tiny.parquet")], "models": ["models"], "doctor": ["doctor"]}


@pytest.mark.parametrize("name", ["check", "models", "doctor"])
def test_what_is_printed_is_written(name, tiny, tmp_path, capsys):
    target = tmp_path / "sub" / "t.json"
    assert main([*commands_with_tables(tiny)[name], "--json", str(target)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    tables = json.loads(target.read_text())
    assert tables
    for table in tables:
        assert table["title"] in out
        for row in table["rows"]:
            for value in row.values():
                shown = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
                assert all(word in out for word in shown.split() if len(word) < 20)


def test_the_detectors_are_those_that_model_knows(tmp_path):
    from dfdet.detectors import DETECTORS

    main(["models", "--json", str(tmp_path / "m.json")])
    (table,) = json.loads((tmp_path / "m.json").read_text())
    assert [row["name"] for row in table["rows"]] == [*DETECTORS, "ensemble"]
    assert all(row["config"] for row in table["rows"][:-1])


def test_doctor_says_what_to_do_about_a_missing_face_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DFDET_CACHE", str(tmp_path / "cache"))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "--detector yunet fetches it once" in out
    assert str(tmp_path / "cache")[:20] in out


def test_index_prints_and_writes_its_tables(tmp_path, pictures, capsys):
    out, target = tmp_path / "m.parquet", tmp_path / "t.json"
    words = ["index", "folder", str(pictures), "--cropped", "--workers", "1"]
    assert main([*words, "--out", str(out), "--json", str(target)]) == 0
    said = capsys.readouterr()
    titles = [table["title"] for table in json.loads(target.read_text())]
    assert titles == [line.strip() for line in said.out.splitlines() if line.strip() in titles]
    assert f"wrote {out}" in said.err
    assert "next: dfdet test" in said.err
    assert main([*words, "--out", str(out)]) == 2
    assert "is there already; give another --out, or --overwrite" in capsys.readouterr().err
    before = out.read_bytes()
    assert main([*words, "--out", str(out), "--overwrite"]) == 0
    assert out.read_bytes() == before


def test_a_closed_pipe_is_no_traceback(tiny, dfdet_command):
    command = [*dfdet_command, "check", str(tiny / "tiny.parquet")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running.stdout.close()
    assert running.stderr.read() == ""
    running.stderr.close()
    running.wait()
