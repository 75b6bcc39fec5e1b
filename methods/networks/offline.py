"""Do not wait for a hub that cannot be reached: its client tries again for a minute."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

WAIT = 3.0  # seconds for a connection
PORTS = {"http": 80, "https": 443}


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Take only cached files of the Hugging Face hub in the block, if neither it nor its proxy answers."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or _answers(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def _answers(address: str) -> bool:
    """Return whether a connection to an address is possible, or to its proxy."""
    try:
        place = urlsplit(getproxies().get(urlsplit(address).scheme) or address)
        port = place.port or PORTS.get(place.scheme, 443)
        socket.create_connection((place.hostname or "", port), timeout=WAIT).close()
    except (OSError, ValueError):
        return False
    return True
