"""A finished file is on disk at once; what a kill tore is cut off; what does not fit is refused and kept."""

import pytest

from dfdet.errors import UserError
from dfdet.indexing.journal import Journal

SETTINGS = {"corpus": "c", "faces": {"name": "dlib", "size": 640}}
RECORDS = {f"real/{i}\u2028ä.mp4": {"row": {"size": i, "reason": None}, "tracks": {"x": [0.1, None]}} for i in range(3)}


@pytest.fixture
def path(tmp_path):
    """A journal of three files that an earlier process left."""
    journal = Journal(tmp_path / "new" / ".m.journal", SETTINGS)
    for key, record in RECORDS.items():
        journal.add(key, record)
    journal.close()
    return journal.path


def reopened(path, settings=SETTINGS):
    journal = Journal(path, settings)
    journal.close()
    return journal.records


def test_what_was_added_is_there(path):
    assert reopened(path) == RECORDS
    Journal(path, SETTINGS).remove()
    assert not path.exists()
    assert reopened(path) == {}


def test_whatever_a_kill_leaves_can_be_gone_on_with(path):
    """Cut at every byte: whole lines count, the torn one does not, and the journal can be written to."""
    content = path.read_bytes()
    keys = list(RECORDS)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = max(content[:length].count(b"\n") - 1, 0)
        journal = Journal(path, SETTINGS)
        assert list(journal.records) == keys[:whole]
        journal.add("more", {"row": {}})
        journal.close()
        assert list(reopened(path)) == [*keys[:whole], "more"]


def test_other_settings_are_refused_and_nothing_is_lost(path):
    before = path.read_bytes()
    with pytest.raises(UserError, match="from an interrupted indexing with other settings; give the settings of then"):
        reopened(path, {**SETTINGS, "faces": {"name": "dlib", "size": 320}})
    assert path.read_bytes() == before


def test_two_writers_are_refused(path):
    journal = Journal(path, SETTINGS)
    with pytest.raises(UserError, match="another dfdet index is at work"):
        Journal(path, SETTINGS)
    journal.add("more", {"row": {}})
    journal.close()
    assert list(reopened(path)) == [*RECORDS, "more"]


@pytest.mark.parametrize("damage", [b"\0\0\0\n", b"[]\n", b"{}\n"])
def test_damage_is_named_with_its_line(path, damage):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], damage, *lines[2:]]))
    with pytest.raises(UserError, match="line 3 is damaged; delete the file"):
        reopened(path)
