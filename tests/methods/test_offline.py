"""Weights that are not in the cache: without a network the error comes at once, in one line."""

import socket
import time

import pytest
from huggingface_hub import constants
from transferbench import InputError
from transferbench.methods.networks.encoders import build_encoder
from transferbench.methods.networks.offline import offline_if_unreachable


@pytest.fixture
def closed(monkeypatch):
    """A hub at a port where nobody listens, and an empty cache."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield


def test_a_hub_that_answers_is_asked(closed, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with offline_if_unreachable():
            assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "http://[", "nonsense"])
def test_a_proxy_that_does_not_answer_counts_as_no_network(closed, monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    with offline_if_unreachable():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


def test_without_a_network_the_error_comes_at_once(closed, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    begun = time.monotonic()
    with pytest.raises(InputError, match="none could be fetched.*checkpoint=PATH") as error:
        build_encoder("resnet10t", True, None, {})
    assert time.monotonic() - begun < 20  # the hub's client tries for a minute
    assert "\n" not in str(error.value)
