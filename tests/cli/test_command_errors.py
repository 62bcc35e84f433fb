"""A user's mistake: exit code 2, one line that says what and what to do, nothing written, no traceback."""

import shutil

import pytest

from dfdet.cli import main

OUT = ["--out", "new.parquet"]


@pytest.fixture
def folder(tmp_path, monkeypatch, pictures):
    """A working directory with a corpus, an empty folder, a text, a manifest to be, and corpora of one's own."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("no table")
    (tmp_path / "there.parquet").write_text("kept")
    (tmp_path / "labels.csv").write_text("path,label\na.mp4,maybe\n")
    lab = tmp_path / "lab_cli"
    lab.mkdir()
    (lab / "__init__.py").touch()
    (lab / "clash.py").write_text("def read(root, *, out: str = 'x'): ...\n")
    (lab / "odd.py").write_text("def read(folder, *, flag: bool = False): return 5\n")
    (lab / "broken.py").write_text("1 / 0\n")
    video = tmp_path / "ff" / "original_sequences" / "youtube" / "c23" / "videos"
    video.mkdir(parents=True)
    (video / "000.mp4").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DFDET_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("chekc x", "there is no command 'chekc'; did you mean 'check'?"),
        ("frobnicate", "there is no command 'frobnicate'; known: bench, check, demo, doctor"),
        ("check", "required: manifest; see `dfdet check --help`"),
        ("check there.parquet --jsn x", "unknown argument '--jsn'; did you mean '--json'?"),
        ("check nowhere.parquet", "nowhere.parquet does not exist; make it with `dfdet index`"),
        ("check text.parquet", "text.parquet is no Parquet file"),
        ("check empty", "empty does not exist"),
        ("models extra", "unknown argument 'extra'"),
        ("doctor --json", "--json: expected one argument"),
        ("runs --root nowhere", "nowhere does not exist; give the directory that holds your runs"),
        ("index", "required: corpus, root"),
        ("index folder corpus", "does not know what to write; give --out x.parquet"),
        ("index foldr corpus --out new.parquet", "no corpus 'foldr'; did you mean 'folder'?"),
        ("index absent_cli.corpus corpus --out new.parquet", "No module named 'absent_cli'"),
        ("index lab_cli.broken corpus --out new.parquet", "ZeroDivisionError"),
        ("index lab_cli.clash corpus --out new.parquet", "option 'out' of lab_cli.clash is one of dfdet index too"),
        ("index lab_cli.odd corpus --flag --out new.parquet", "returned int; return a dfdet.corpora.Reading"),
        ("index folder corpus --out new.csv", "new.csv is no .parquet file; give --out new.parquet"),
        ("index folder corpus --out there.parquet", "there.parquet is there already; give another --out, or --over"),
        ("index folder nowhere --out new.parquet", "nowhere does not exist; give the folder that holds folder"),
        ("index folder empty --out new.parquet", "empty has no folders of real and fake files; expected real/ and"),
        ("index csv empty --out new.parquet", "empty holds no list; give the list itself"),
        ("index csv labels.csv --out new.parquet", "row 1 (a.mp4): label 'maybe' is not known; write 0 or real"),
        ("index faceforensics empty --out new.parquet", "empty holds no video of FaceForensics++"),
        ("index faceforensics ff --out new.parquet", "split"),
        ("index dfdc empty --out new.parquet", "empty"),
        (
            "index folder corpus --out new.parquet --detectr x",
            "unknown argument '--detectr'; did you mean '--detector'?",
        ),
        (
            "index folder corpus --out new.parquet --detector ylib",
            "--detector does not take 'ylib'; did you mean 'dlib'?",
        ),
        ("index folder corpus --out new.parquet --workers two", "--workers does not take 'two'; give a whole number"),
        ("index folder corpus --out new.parquet --workers 0", "--workers 0; give 1 or more"),
        ("index folder corpus --out new.parquet --workers -2", "--workers -2; give 1 or more"),
        ("index folder corpus --out new.parquet --detector dlib --stride 0", "stride 0; size >= 64, stride >= 1"),
        ("index folder corpus --out new.parquet --group_regex (", "is no regular expression"),
        ("index folder corpus --out new.parquet --detector dlib --detector_model f", "dlib takes none"),
        ("index folder corpus --out new.parquet --detector_model nowhere.onnx", "nowhere.onnx does not exist"),
        ("test", None),
        ("test --data.num_workers 0", "dfdet test wants a run; dfdet test --run runs/EXPERIMENT/NAME"),
        ("validate --run", "--run wants a value"),
        ("predict corpus", "dfdet predict wants a run"),
        ("predict corpus --run nowhere", "nowhere is no run directory"),
        ("fit --resume nowhere", "nowhere is no run directory"),
    ],
)
def test_one_line_and_exit_code_2(folder, capsys, words, says):
    before = sorted(p.name for p in folder.iterdir())
    code = main(words.split())
    err = capsys.readouterr().err
    if says is None:  # nothing given at all is a question for the help
        assert code == 0
        return
    assert code == 2
    assert err.startswith("dfdet: error: ")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(p.name for p in folder.iterdir()) == before
    assert (folder / "there.parquet").read_text() == "kept"


@pytest.mark.usefixtures("folder")
def test_without_a_face_model_all_ways_on_are_named(capsys):
    assert main(["index", "folder", "corpus", *OUT]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("dfdet: error: no YuNet model in")
    for way in ("--detector yunet fetches it once", "--detector_model FILE", "--detector dlib"):
        assert way in err


@pytest.mark.usefixtures("folder")
def test_what_the_disk_refuses_is_one_line(capsys):
    assert main(["index", "folder", "corpus", "--cropped", "--out", "/proc/x.parquet"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("dfdet: error: /proc/.x.parquet.journal: ")
    assert main(["models", "--json", "there.parquet/x.json"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("dfdet: error: there.parquet")
    assert err.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    def bug(_):
        raise OSError("a library that says neither number nor file")

    monkeypatch.setattr("dfdet.cli.models.main", bug)
    with pytest.raises(OSError, match="neither number"):
        main(["models"])


def test_tracks_of_another_indexing_are_refused(tiny, tmp_path, capsys):
    for name in ("tiny.parquet", "tiny.faces.parquet"):
        shutil.copy(tiny / name, tmp_path / name)
    assert main(["check", str(tmp_path / "tiny.parquet")]) == 0
    capsys.readouterr()
    shutil.copy(tiny / "tiny.parquet", tmp_path / "tiny.faces.parquet")
    assert main(["check", str(tmp_path / "tiny.parquet")]) == 2
    assert "is not a dfdet.tracks table" in capsys.readouterr().err
    (tmp_path / "tiny.faces.parquet").unlink()
    assert main(["check", str(tmp_path / "tiny.parquet")]) == 2
    err = capsys.readouterr().err
    assert "tiny.faces.parquet does not exist; run `dfdet index` again" in err
    assert err.count("\n") == 1


def test_ctrl_c_anywhere_is_130(monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dfdet.cli.models.main", stop)
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
