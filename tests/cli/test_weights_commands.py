"""`dfdet weights`, and scoring files with published weights and no run."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import dfdet
from dfdet.cli import main
from dfdet.errors import UserError
from dfdet.networks.mesonet import Meso4
from dfdet.weights.registry import PUBLISHED

torch.set_num_threads(1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DFDET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mesonet(sample_media):
    found = sample_media / "weights" / "mesonet"
    if not found.is_dir():
        pytest.skip(f"no published MesoNet weights at {found}")
    return found


def rows_of(path):
    (table,) = json.loads(path.read_text())
    return table["rows"]


def test_the_help_names_the_parts_and_the_command_is_listed(capsys):
    for arguments in (["weights"], ["weights", "--help"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert all(part in out for part in ("list", "get", "import", "example: dfdet weights get"))
    assert main([]) == 0
    assert "published weights: list them" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["weights", "import", "--help"])
    assert "--name" in capsys.readouterr().out


def test_the_list_has_every_published_file_and_its_json_every_fact(cache, tmp_path, capsys):
    assert main(["weights", "list", "--json", str(tmp_path / "list.json")]) == 0
    out = capsys.readouterr().out
    rows = rows_of(tmp_path / "list.json")
    assert [row["name"] for row in rows] == list(PUBLISHED)
    assert all(name in out for name in PUBLISHED)
    assert {"url", "sha256", "licence", "output as published", "published", "source", "trained on"} <= set(rows[0])
    assert all(row["here"] is None for row in rows)


def test_one_name_is_told_in_full(cache, tmp_path):
    assert main(["weights", "list", "xception.deepfakebench", "--json", str(tmp_path / "one.json")]) == 0
    facts = {row["fact"]: row["value"] for row in rows_of(tmp_path / "one.json")}
    assert facts["licence"] == "CC BY-NC 4.0"
    assert facts["output as published"] == "two logits, 1 = fake"
    assert json.loads(facts["init_args"])["statistics"] == "half"


@pytest.mark.data
def test_an_imported_file_is_listed_and_got_without_a_network(cache, mesonet, tmp_path, capsys):
    assert main(["weights", "import", str(mesonet / "Meso4_DF.h5"), "--json", str(tmp_path / "i.json")]) == 0
    assert {row["fact"]: row["value"] for row in rows_of(tmp_path / "i.json")}["from"] == "Meso4_DF.h5"
    shutil.copy(mesonet / "Meso4_F2F.h5", tmp_path / "mine.h5")
    assert main(["weights", "import", str(tmp_path / "mine.h5"), "--name", "meso4.f2f"]) == 0
    capsys.readouterr()
    assert main(["weights", "get", "meso4.df"]) == 0
    assert "meso4.df was here already" in capsys.readouterr().err
    assert main(["weights", "list", "--json", str(tmp_path / "list.json")]) == 0
    here = {row["name"] for row in rows_of(tmp_path / "list.json") if row["here"]}
    assert here == {"meso4.df", "meso4.f2f"}


def test_what_is_imported_without_a_name_is_listed_apart(cache, tmp_path, capsys):
    from dfdet.networks.mesonet_deepfakebench import DeepfakeBenchMeso4

    state = {f"backbone.{key}": value for key, value in DeepfakeBenchMeso4().state_dict().items()}
    torch.save(state, tmp_path / "ours.pth")
    assert main(["weights", "import", str(tmp_path / "ours.pth")]) == 0
    assert "import it with --name: meso4.deepfakebench" in capsys.readouterr().out
    assert main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    assert "Taken in by you" in out
    assert "ours.pth" in out
    assert main(["weights", "list", "ours"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["weights", "gett"], "dfdet weights has no part 'gett'; did you mean 'get'?"),
        (["weights", "get", "meso4.deepfakebnch"], "did you mean 'meso4.deepfakebench'?"),
        (["weights", "list", "meso4.dff"], "did you mean 'meso4.df'?"),
        (["weights", "get", "resnext_lstm.10"], "cannot be fetched by URL; open https://drive.google.com"),
        (["weights", "import", "absent.pth"], "absent.pth is not a file"),
        (["weights", "get", "hf:owner"], "names no repository"),
        (
            ["predict", "x.mp4", "--model", "meso4"],
            "meso4 has random weights; give --run or --weights, or say --untrained",
        ),
        (["predict", "x.mp4", "--untrained"], "--untrained wants a --model"),
        (
            ["predict", __file__, "--untrained", "--model", "mesoo4"],
            "no detector is named 'mesoo4'; did you mean 'meso4'?",
        ),
        (["predict", "x.mp4", "--untrained", "--model", "meso4", "--weights", "meso4.df"], "one of --run, --weights,"),
        (["predict", "x.mp4", "--run", "x", "--weights", "meso4.df"], "one of --run, --weights, --untrained"),
        (["predict", "x.mp4", "--run", "x", "--model", "meso4"], "a run has its own"),
        (["predict", "x.mp4", "--weights", "meso4.df"], "x.mp4 does not exist"),
        (["predict", __file__, "--weights", "meso4.dff"], "did you mean 'meso4.df'?"),
        (["predict", "--weights", "meso4.df"], "wants files or folders"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, cache, capsys):
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


# Scoring without a run -----------------------------------------------------------------------------------------------


@pytest.mark.data
def test_published_weights_call_their_authors_fakes_fake_and_reals_real(cache, mesonet, tmp_path, capsys):
    assert main(["weights", "import", str(mesonet / "Meso4_DF.h5")]) == 0
    arguments = ["predict", str(mesonet / "test_images"), "--weights", "meso4.df", "--cropped"]
    assert main([*arguments, "--json", str(tmp_path / "out.json")]) == 0
    _, table = json.loads((tmp_path / "out.json").read_text())
    verdicts = {row["path"].rsplit("/", 1)[1][:2]: set() for row in table["rows"]}
    for row in table["rows"]:
        verdicts[row["path"].rsplit("/", 1)[1][:2]].add(row["verdict"])
    assert verdicts == {"df": {"fake"}, "re": {"real"}}
    assert "called fake above logit 0.000, where its probability is one half" in table["notes"][0]
    assert table["notes"][1] == "meso4.df: trained on the authors' deepfakes, licence Apache-2.0"


@pytest.mark.data
def test_a_file_that_tells_its_network_needs_no_name(mesonet):
    predictor = dfdet.load(weights=str(mesonet / "MesoInception_DF.h5"))
    assert type(predictor.model).__name__ == "MesoInception4Detector"
    assert predictor.run is None
    assert predictor.data.crop.scale == 1.0
    found = predictor.predict(mesonet / "test_images", cropped=True)
    assert found.videos["logit"].notna().all()
    assert (found.videos["logit"] > 0).tolist() == ["df" in path for path in found.videos["path"]]


def test_a_file_that_does_not_tell_its_detector_needs_its_name(tmp_path, pictures, cache, capsys):
    network = Meso4()
    torch.save(network.state_dict(), tmp_path / "plain.pt")
    arguments = ["predict", str(pictures), "--cropped", "--weights", str(tmp_path / "plain.pt")]
    assert main(arguments) == 2
    assert "does not tell which detector it is of; say so: --weights FILE --model NAME" in capsys.readouterr().err
    assert main([*arguments, "--model", "mesoinception4"]) == 2
    assert "does not fit MesoInception4" in capsys.readouterr().err
    assert main([*arguments, "--model", "meso4", "--out", str(tmp_path / "scores.json")]) == 0
    scored = json.loads((tmp_path / "scores.json").read_text())["videos"]
    assert len(scored) == 2
    assert all(np.isfinite(row["logit"]) for row in scored)


def test_random_weights_score_when_told_and_the_table_says_so(pictures, tmp_path, capsys):
    arguments = ["predict", str(pictures), "--cropped", "--model", "meso4", "--untrained"]
    assert main([*arguments, "--out", str(tmp_path / "a.json")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "no verdicts: the weights are random" in out
    assert "meso4 is untrained: its weights are random, and its scores say nothing" in out
    assert main([*arguments, "--out", str(tmp_path / "b.json")]) == 0
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    assert {row["verdict"] for row in json.loads((tmp_path / "a.json").read_text())["videos"]} == {""}


def test_load_wants_one_of_the_two():
    for arguments in ({}, {"run": "x", "weights": "meso4.df"}):
        with pytest.raises(UserError, match=r"dfdet\.load wants a run or weights, one of the two"):
            dfdet.load(**arguments)
