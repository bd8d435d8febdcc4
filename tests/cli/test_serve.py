"""A run as a service, from the command line."""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import requests
import torch

from scratchlm.cli import serve as command
from scratchlm.cli.app import main
from scratchlm.cli.serve import KEY, find_key, is_local
from scratchlm.serving.export import write_run
from scratchlm.serving.server import Limits, Service, served
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.training.checkpoint import load_model


class Asked:
    """Stands for the server: what it would serve, and at which socket."""

    app: Any
    sockets: list[socket.socket]

    def run(self, sockets: list[socket.socket]) -> None:
        """End at once."""
        self.sockets = sockets
        for door in sockets:
            door.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Nothing is served for real."""
    found = Asked()

    def make_server(app: Any, logged: str, seconds: float) -> Asked:
        assert seconds == Limits().seconds  # those of a whole request
        found.app = app
        return found

    monkeypatch.setattr(command, "make_server", make_server)
    monkeypatch.delenv(KEY, raising=False)
    return found


def service_of(app: Any) -> Service:
    """The service behind an application."""
    found = app.user_middleware[0].kwargs["service"]
    assert isinstance(found, Service)
    return found


def test_serve(
    asked: Asked,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(KEY, "sesame")
    words = ["--run", str(run), "--port", "0", "--rows", "3"]
    assert main(["serve", *words]) == 0
    said = capsys.readouterr().out
    assert said.startswith("toytown answers at http://127.0.0.1:")
    service = service_of(asked.app)
    assert (service.name, service.key) == ("toytown", "sesame")
    assert service.worker.engine.rows == 3


def test_no_thread_but_the_engines_has_a_pool(asked: Asked, run: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert main(["serve", "--run", str(run), "--port", "0"]) == 0
        assert torch.get_num_threads() == 1
        assert service_of(asked.app).worker.threads == 3
    finally:
        torch.set_num_threads(before)


def test_the_habits_of_an_import_are_kept(asked: Asked, run: Path) -> None:
    """Its token in front of each text, and its form of Unicode."""
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    habits = {"begin": [tokenizer.end_id], "normal": "NFC"}
    write_run(Path("imported"), load_model(run), tokenizer, habits)
    assert main(["serve", "--run", "imported", "--port", "0"]) == 0
    found = service_of(asked.app).encode("cafe\u0301")
    assert found == [tokenizer.end_id, *tokenizer.encode("caf\u00e9")]


def test_other_machines_need_a_key(
    asked: Asked, run: Path, fails: Callable[[list[str]], str], tmp_path: Path
) -> None:
    everywhere = str(IPv4Address(0))
    words = ["serve", "--run", str(run), "--port", "0", "--host", everywhere]
    assert "no key is set" in fails(words)
    assert main([*words, "--open-to-all"]) == 0
    assert service_of(asked.app).key is None
    (tmp_path / "key").write_text("  sesame\n")
    assert main([*words, "--key-file", "key", "--name", "town"]) == 0
    assert service_of(asked.app).key == "sesame"
    assert service_of(asked.app).name == "town"


def test_a_port_in_use(
    asked: Asked, run: Path, fails: Callable[[list[str]], str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        said = fails(["serve", "--run", str(run), "--port", port])
    assert f"127.0.0.1, port {port}: address already in use" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "choose one below 65536"),
        (["--rows", "0"], "1 row or more"),
        (["--waiting", "2"], "includes the --rows"),
        (["--run", "nowhere"], "nowhere holds no run"),
        (["--key-file", "nowhere"], "no such file"),
        (["--host", "no.such.name.invalid", "--open-to-all"], "port"),
    ],
)
def test_what_cannot_be(
    words: list[str],
    message: str,
    asked: Asked,
    run: Path,
    fails: Callable[[list[str]], str],
) -> None:
    where = [] if "--run" in words else ["--run", str(run)]
    assert message in fails(["serve", *where, *words])


def test_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KEY, " \n")
    with pytest.raises(command.UserError, match="empty"):
        find_key(None)
    monkeypatch.delenv(KEY)
    assert find_key(None) is None
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbfsesame\r\n")
    assert find_key(tmp_path / "key") == "sesame"
    for wrong in ("schl\u00fcssel", "ses\name", "ses\tame"):
        (tmp_path / "key").write_text(wrong, encoding="utf-8")
        with pytest.raises(command.UserError, match="plain letters"):
            find_key(tmp_path / "key")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_each_local_address_is_answered(
    host: str, asked: Asked, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--run", str(run), "--port", "0", "--host", host]
    monkeypatch.setattr(command, "listen", lambda *_: socket.socket())
    assert main(["serve", *words]) == 0
    with served(asked.app) as address:
        found = [
            requests.get(
                f"{address}/health", headers={"Host": name}, timeout=60
            ).status_code
            for name in (f"{host}:8000", "town.example")
        ]
    assert found == [200, 400]


def test_which_addresses_are_local() -> None:
    assert is_local("::1")
    assert not is_local("192.168.1.5")
    assert not is_local("town.example")
