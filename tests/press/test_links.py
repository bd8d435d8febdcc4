"""Addresses outside: what is lost, what is refused, what is fine."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from press import links


class Host(BaseHTTPRequestHandler):
    """Answers with the code that the address names; /slow once not at all."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/slow" and self.asked.count("/slow") == 1:
            return  # hangs up without a word
        code = self.path.strip("/")
        self.send_response(int(code) if code.isdigit() else 200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def host() -> Iterator[str]:
    """The address of a host on this machine."""
    Host.asked = []
    server = HTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/200", ("", False)),
        ("/404", ("answers 404", True)),
        ("/410", ("answers 410", True)),
        ("/403", ("answers 403", False)),
        ("/503", ("answers 503", False)),
        ("/slow", ("", False)),
    ],
)
def test_what_a_host_says(
    host: str, path: str, answer: tuple[str, bool]
) -> None:
    assert links.ask(host + path) == answer
    assert len(Host.asked) == (2 if path == "/slow" else 1)


def test_nobody_there_is_lost(host: str) -> None:
    with HTTPServer(("127.0.0.1", 0), Host) as server:
        port = server.server_port
    said, lost = links.ask(f"http://127.0.0.1:{port}/")
    assert said == "does not answer (ConnectionError)"
    assert lost


def test_each_address_is_asked_once_and_named_with_its_places(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    named = [
        ("book/a.md:1", f"{host}/404"),
        ("book/b.md:2", f"{host}/404#place"),
        ("book/b.md:3", f"{host}/403"),
        ("book/b.md:4", f"{host}/200"),
    ]
    monkeypatch.setattr(links, "all_addresses", lambda book: iter(named))
    assert links.main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"LOST {host}/404 answers 404: book/a.md:1, book/b.md:2",
        f"note {host}/403 answers 403: book/b.md:3",
        "3 addresses, 1 of them lost",
    ]
    assert len(Host.asked) == 3
    monkeypatch.setattr(links, "all_addresses", lambda book: iter(named[2:]))
    assert links.main(["--seconds", "5"]) == 0


def test_the_book_has_addresses_to_ask() -> None:
    places = links.gather(links.all_addresses(links.Book()))
    assert len(places) > 20
    assert all(address.startswith("https://") for address in places)
