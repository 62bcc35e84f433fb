"""Weights of a hub and of a W&B artifact are found by their address, and what cannot be had is one line."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from dfdet.errors import UserError
from dfdet.networks.mesonet import Meso4
from dfdet.weights.checkpoints import load_weights
from dfdet.weights.hubs import from_hf, from_wandb

torch.set_num_threads(1)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of a hub as answers for the files of owner/net."""

    def answer(self, send_body):
        path = self.path.split("?")[0]
        self.server.seen.append(f"{self.command} {path}")
        body = self.server.files.get(path)
        if body is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if "/owner/net/" in path else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if send_body:
            self.wfile.write(body)

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(4)
    return Meso4(32)


@pytest.fixture
def hub(network):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    whole = save(network.state_dict())
    server.files = {
        "/owner/net/resolve/main/model.safetensors": whole,
        "/owner/net/resolve/v2/deep/other.safetensors": whole,
    }
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


SCRIPT = """
import json, sys, torch
from dfdet.errors import UserError
from dfdet.networks.mesonet import Meso4
from dfdet.weights.checkpoints import load_weights
for source in sys.argv[1:]:
    network = Meso4(32)
    try:
        load_weights(source, network)
        print(json.dumps(float(network.output.weight.double().sum())))
    except UserError as error:
        print(json.dumps(str(error)))
"""


def asked(sources, endpoint, home, offline="0"):
    """What a process of its own says of each source: the hub's client reads its settings when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment["HF_HUB_OFFLINE"] = offline
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *sources], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_hubs_file_fills_a_network_and_what_is_not_there_is_one_line(hub, network, tmp_path):
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    found, other, no_file, no_owner = asked(
        ["hf:owner/net", "hf:owner/net@v2/deep/other.safetensors", "hf:owner/net/absent.safetensors", "hf:no/body"],
        endpoint,
        tmp_path,
    )
    total = float(network.output.weight.detach().double().sum())
    assert found == pytest.approx(total)
    assert other == pytest.approx(total)
    assert "GET /owner/net/resolve/main/model.safetensors" in hub.seen
    for told, source in ((no_file, "hf:owner/net/absent.safetensors"), (no_owner, "hf:no/body")):
        assert told.startswith(f"{source} cannot be had: ")
        assert "\n" not in told
        assert f"https://huggingface.co/{'/'.join(source[3:].split('/')[:2])}" in told


@pytest.mark.parametrize(
    "offline", ["1", pytest.param("0", marks=pytest.mark.slow)]
)  # the client tries for half a minute
def test_a_hub_that_does_not_answer_is_one_line(tmp_path, offline):
    (told,) = asked(["hf:owner/net"], "http://127.0.0.1:9", tmp_path, offline)
    assert told.startswith(
        "hf:owner/net cannot be reached, and is not in the hub's cache; or download model.safetensors"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:", "names no repository"),
        ("hf:name", "names no repository"),
        ("hf:owner/net/pytorch_model.bin", "no .safetensors file, which is all that is taken from a hub"),
        ("hf:a b/c..d", "say hf:owner/name"),
    ],
)
def test_an_address_that_is_spelt_otherwise_is_told_how(source, said):
    with pytest.raises(UserError, match=said):
        from_hf(source)


# Weights & Biases --------------------------------------------------------------------------------------------------


class Library(types.ModuleType):
    """A stand-in for wandb that keeps what it was asked."""

    class Error(Exception):
        pass

    def __init__(self, files):
        super().__init__("wandb")
        self.asked, self.files = [], files

    def Api(self):  # noqa: N802 - wandb's name
        library = self

        class Artifact:
            version = "v3"

            def download(self, root):
                library.asked.append(("download", root))
                for name, content in library.files.items():
                    (Path(root) / name).parent.mkdir(parents=True, exist_ok=True)
                    torch.save(content, Path(root) / name)
                return root

        class Api:
            def artifact(self, name):
                library.asked.append(("artifact", name))
                if "absent" in name:
                    raise Library.Error("artifact membership 'absent' not found\nmore")
                return Artifact()

        return Api()


@pytest.fixture
def wandb(network, monkeypatch):
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    library = Library({"model.ckpt": {"state_dict": state, "epoch": 1}})
    monkeypatch.setitem(sys.modules, "wandb", library)
    return library


def test_an_artifact_is_downloaded_below_the_cache_and_fills_a_network(wandb, network, cache):
    fresh = Meso4(32)
    weights = load_weights("wandb:team/faces/model-abc:best", fresh)
    folder = str(cache / "wandb" / "team-faces-model-abc" / "v3")
    assert wandb.asked == [("artifact", "team/faces/model-abc:best"), ("download", folder)]
    assert weights.path == Path(folder) / "model.ckpt"
    assert torch.equal(fresh.output.weight, network.output.weight)


def test_an_artifact_without_alias_is_the_latest(wandb, cache):
    from_wandb("wandb:team/faces/model-abc")
    assert wandb.asked[0] == ("artifact", "team/faces/model-abc:latest")


def test_of_several_files_the_usual_one_is_taken_or_all_are_named(wandb, cache):
    wandb.files = {"a.ckpt": {}, "sub/best.ckpt": {}}
    assert from_wandb("wandb:team/faces/several:v0").name == "best.ckpt"
    wandb.files = {"a.ckpt": {}, "b.ckpt": {}}
    with pytest.raises(UserError, match=r"holds several files of weights \(a\.ckpt, b\.ckpt\)"):
        from_wandb("wandb:team/faces/more:v0")
    wandb.files = {"notes.txt": {}}
    with pytest.raises(UserError, match="holds no file of weights"):
        from_wandb("wandb:team/faces/none:v0")


def test_an_artifact_that_cannot_be_had_is_one_line(wandb, cache):
    with pytest.raises(
        UserError, match=r"wandb:team/faces/absent:v1 cannot be had: artifact membership 'absent' not"
    ) as e:
        from_wandb("wandb:team/faces/absent:v1")
    assert "wandb login" in str(e.value)
    with pytest.raises(UserError, match="say wandb:entity/project/name:alias"):
        from_wandb("wandb:model-abc:v1")
