"""`dfdet store build`: the fit with the same arguments decodes nothing any more."""

from __future__ import annotations

import json

import pytest

from dfdet.cli import main
from dfdet.data import visits


def only_row(report):
    (table,) = json.loads(report.read_text())
    (row,) = table["rows"]
    return dict(zip(table["columns"], row, strict=True)) if isinstance(row, list) else row


@pytest.fixture
def stored(flags, tmp_path):
    """The flags of a fit with a store, without those that only a fit has."""
    pool = ["--data.clip_pool", "6", "--data.crop_store", str(tmp_path / "crops")]
    return [*flags(tmp_path / "runs", "--data.clips_per_visit", "2"), *pool]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_fit_after_it_decodes_nothing(stored, tmp_path, monkeypatch, workers, capsys):
    report = tmp_path / "report.json"
    assert main(["store", "build", *stored, "--data.num_workers", workers, "--json", str(report)]) == 0
    assert "next: dfdet fit with the same arguments" in " ".join("".join(capsys.readouterr()).split())
    row = only_row(report)
    assert (row["clips before"], row["could not be made"]) == (0, 0)
    assert row["clips now"] > 12 * 6

    def opened(*_):
        raise AssertionError("a file was decoded")

    monkeypatch.setattr(visits, "open_reader", opened)
    assert main(["fit", *stored]) == 0


def test_a_second_time_there_is_nothing_to_do(stored, tmp_path, monkeypatch):
    report = tmp_path / "report.json"
    assert main(["store", "build", *stored]) == 0
    assert main(["store", "build", *stored, "--json", str(report)]) == 0
    row = only_row(report)
    assert row["clips before"] == row["clips now"]


def test_without_a_store_it_is_refused(flags, tmp_path, capsys):
    assert main(["store", "build", *flags(tmp_path)]) == 2
    assert "give --data.crop_store DIR" in " ".join(capsys.readouterr().err.split())
