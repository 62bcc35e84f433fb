"""A disk that fills up in the midst of indexing: one clear line, and the same command goes on when there is room."""

import subprocess

import pytest


def mount(*arguments) -> str | None:
    """Why it failed; None where it did not."""
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no mount command"
    return done.stderr.strip() if done.returncode else None


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(kib)``: a folder on a disk of its own; called again it gives the disk another size."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def make(kib):
        nonlocal mounted
        options = f"{'remount,' if mounted else ''}size={kib}k"
        problem = mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))
        if problem:
            pytest.skip(f"a disk of one's own cannot be mounted here: {problem}")
        mounted = True
        return place

    yield make
    if mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


# the journal of these films takes some 20 KiB and each table as much again; a page is the least that a disk gives
@pytest.mark.parametrize(("kib", "name"), [(8, ".m.parquet.journal"), (28, None)], ids=["the journal", "the tables"])
def test_is_one_line_and_what_was_finished_is_gone_on_with(
    films, file_count, small_disk, start_index, same_tables, kib, name
):
    place = small_disk(kib)
    out = place / "m.parquet"
    running = start_index(films, out, "--workers", "2")
    code, err = running.finish()
    assert (code, "Traceback" in err) == (1, False), err
    line = err.splitlines()[-1]
    assert line.startswith("dfdet: error: ")
    assert line.endswith(": No space left on device")
    assert str(place / (name or "m.")) in line
    assert running.all_gone()
    assert [p.name for p in place.iterdir()] == [".m.parquet.journal"]
    finished = running.lines()
    assert 0 < finished < file_count if name else finished == file_count
    small_disk(4096)
    code, err = start_index(films, out, "--workers", "2").finish()
    assert code == 0
    assert f"{finished} files were finished by an earlier run" in err
    same_tables(out)
