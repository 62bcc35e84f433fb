"""A file is written whole or not at all, and what stood there stays where it is not."""

import hashlib
import json
import subprocess
import sys

import pytest

from dfdet import files

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from dfdet.files import write_text
try:
    write_text(sys.argv[1], "x" * 5000)
except OSError as error:
    print(error.errno, error.filename)
"""


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.replacing(path) as draft:
        draft.write_text("whole")
        assert not path.exists()
        assert draft.parent == path.parent
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with files.replacing(path) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["27", str(path)]
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_json_has_no_nan_and_no_infinity(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": [float("nan"), float("inf"), 0.5], 1: (None, "Ä")})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, None, 0.5], "1": [None, "Ä"]}
    assert "Ä" in text


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_sha256_is_that_of_the_whole_file(tmp_path, size):
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
