"""The hub is asked once, in bounded time, and its packages go offline when it does not answer."""

import os
import socket
import threading
import time

import pytest

from diffprob.storage import hub
from diffprob.storage.hub import answers, patience

NAMES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")


@pytest.fixture
def server(monkeypatch):
    """A socket that accepts and, if it is given an answer, sends it; its address."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(answer=b""):
        def once():
            taken, _ = listening.accept()
            with taken:
                taken.recv(4096)
                taken.sendall(answer) if answer else time.sleep(2)

        threading.Thread(target=once, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield serve
    listening.close()


def test_any_http_status_counts_as_an_answer_and_silence_does_not(server):
    assert answers(server(b"HTTP/1.1 200 OK\r\n\r\n"), 2)
    assert answers(server(b"HTTP/1.1 404 Not Found\r\n\r\n"), 2)
    assert not answers(server(), 0.1)
    assert not answers("no address", 2)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert not answers(f"http://127.0.0.1:{port}", 2)


@pytest.mark.parametrize("reachable", [True, False])
def test_settings_apply_inside_the_block_and_user_settings_are_kept(monkeypatch, reachable):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "77")
    monkeypatch.setattr(hub, "answers", lambda endpoint: reachable)
    with patience() as answered:
        assert answered == reachable
        assert os.environ["HF_HUB_ETAG_TIMEOUT"] == "77"
        assert os.environ["HF_HUB_DOWNLOAD_TIMEOUT"] == "10"
        assert ("HF_HUB_OFFLINE" in os.environ) != reachable
    assert [name for name in NAMES if name in os.environ] == ["HF_HUB_ETAG_TIMEOUT"]


def test_offline_mode_makes_no_request(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "answers", lambda endpoint: pytest.fail("asked"))
    with patience() as answered:
        assert not answered
