"""A user's mistake is one line with a way on; an import path leads to the object or to the reason why not."""

import pytest

from dfdet.errors import UserError, nearest
from dfdet.imports import import_object


def test_an_error_is_one_line():
    error = UserError("a\n  path", "do\nthis")
    assert str(error) == "a path; do this"
    assert error.exit_code == 2
    assert str(UserError("a path")) == "a path"


@pytest.mark.parametrize(
    ("word", "known", "says"),
    [
        ("--detectr", ["--detector", "--out"], "did you mean '--detector'?"),
        ("zzz", ["b", "a"], "known: a, b"),
        ("zzz", [f"name{i}" for i in range(30)], ""),
    ],
)
def test_the_nearest_word_or_the_short_list(word, known, says):
    assert nearest(word, known) == says


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "lab_xy").mkdir()
    (tmp_path / "lab_xy" / "__init__.py").touch()
    (tmp_path / "lab_xy" / "good.py").write_text("class Detector: pass\n")
    (tmp_path / "lab_xy" / "broken.py").write_text("1 / 0\n")
    (tmp_path / "lab_xy" / "needs.py").write_text("import not_installed_xy\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere", *__import__("sys").path])


@pytest.mark.usefixtures("lab")
def test_the_working_directory_counts():
    assert import_object("lab_xy.good.Detector", "detector").__name__ == "Detector"
    assert import_object("lab_xy.good", "corpus").__name__ == "lab_xy.good"


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("lab_xy.good.Other", "no attribute 'Other'"),
        ("lab_xy.absent.Other", "No module named 'lab_xy.absent'"),
        ("absent_xy.Other", "No module named 'absent_xy'"),
        ("lab_xy.broken.Detector", "ZeroDivisionError"),
        ("lab_xy.needs.Detector", "No module named 'not_installed_xy'"),
        ("", "cannot be imported"),
        ("..", "cannot be imported"),
    ],
)
def test_the_reason_is_pythons_own(path, says):
    with pytest.raises(UserError) as refused:
        import_object(path, "detector")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
