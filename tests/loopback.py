"""A web server of a folder on 127.0.0.1, with faults to order, that keeps a list of what it was asked for."""

import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

PIECE_BYTES = 1 << 16


@dataclass
class Fault:
    """What goes wrong with the answers for one path; the first `times` of them, or all when negative."""

    times: int = -1
    status: int = 0  # sent in place of the file
    location: str = ""  # with a status of 3xx
    body: bytes | None = None  # sent in place of the file's bytes
    cut_after: int = -1  # bytes of a body after which the connection ends
    reset: bool = False  # ends it by a reset
    endless: bool = False  # repeats the bytes for ever, and tells no length
    untold: bool = False  # tells no length
    chunked: bool = False  # sends the length of each piece before it
    no_range: bool = False  # sends the whole file whatever part is asked for
    no_tags: bool = False  # tells neither ETag nor Last-Modified
    etag: str = ""  # sent in place of the file's
    careless: bool = False  # sends the part asked for of a file that has changed since
    shift: int = 0  # bytes by which the part sent begins later than asked for
    pause_seconds: float = 0.0  # before each piece
    gate: threading.Event | None = None  # waited for before the last piece


@dataclass
class Asked:
    """One request and what became of it."""

    path: str
    headers: Mapping[str, str]
    status: int = 0
    num_bytes: int = 0  # of the body, sent


@dataclass
class Loopback:
    """A running server.

    Attributes:
        url: without a slash at its end; a file's address is `f"{url}/a/b.tar"`.
        requests: in the order they came.
        faults: by path, as "/a/b.tar"; "*" is for all other paths.
    """

    folder: Path
    url: str = ""
    requests: list[Asked] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lock = threading.Lock()

    def fault(self, path: str) -> Fault:
        """Take the fault that the next answer has."""
        with self.lock:
            fault = self.faults.get(path, self.faults.get("*", Fault()))
            if fault.times == 0:
                return Fault()
            fault.times -= 1
            return fault


@contextmanager
def loopback(folder: Path) -> Iterator[Loopback]:
    """Serve a folder until the block ends; proxies are not asked for it."""
    loopback = Loopback(folder)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.loopback = loopback
    loopback.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        thread.start()
        try:
            yield loopback
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    loopback: Loopback
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of those who hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = Asked(path, dict(self.headers))
        self.server.loopback.requests.append(asked)
        fault = self.server.loopback.fault(path)
        file = (self.server.loopback.folder / path.lstrip("/")).resolve()
        is_there = file.is_file() and file.is_relative_to(self.server.loopback.folder.resolve())
        if fault.status or not is_there:
            asked.status = fault.status or 404
            self.send_response(asked.status)
            if fault.location:
                self.send_header("Location", fault.location)
            self.end_headers()
            return
        body = file.read_bytes() if fault.body is None else fault.body
        self.answer(asked, fault, body, self.date_time_string(int(file.stat().st_mtime)))

    def answer(self, asked: Asked, fault: Fault, body: bytes, modified: str) -> None:
        tag = fault.etag or f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        start = 0 if fault.no_range else self.start({"", tag, modified}, fault)
        asked.status = 200 if not start else 206 if start < len(body) else 416
        self.send_response(asked.status)
        if not fault.no_tags:
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", modified)
        if asked.status == 416:
            self.send_header("Content-Range", f"bytes */{len(body)}")
        elif asked.status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if fault.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif not fault.endless and not fault.untold:
            self.send_header("Content-Length", str(max(0, len(body) - start)))
        self.end_headers()
        self.send(asked, fault, memoryview(body)[start:])

    def start(self, current: set[str], fault: Fault) -> int:
        """Find the first byte that is asked for."""
        asked = self.headers.get("Range", "")
        if not asked or not (fault.careless or self.headers.get("If-Range", "") in current):
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-")) + fault.shift

    def send(self, asked: Asked, fault: Fault, body: memoryview) -> None:
        end = len(body) if fault.cut_after < 0 else min(len(body), fault.cut_after)
        position = 0
        while position < end:
            time.sleep(fault.pause_seconds)
            piece = body[position : min(end, position + PIECE_BYTES)]
            if fault.gate and position + len(piece) == end:
                fault.gate.wait()
            asked.num_bytes += len(piece)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if fault.chunked else piece)
            position = 0 if fault.endless else position + len(piece)
        if fault.chunked and end == len(body):
            self.wfile.write(b"0\r\n\r\n")
        if fault.reset and end < len(body):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        """Say nothing."""
