"""Fetching over http: against a server on this machine that cuts, lies and stalls when told to."""

import errno
import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.error import URLError

import pytest
from loopback import Fault, Loopback, loopback
from transferbench import InputError, file_lock
from transferbench.datasets.download import http as module
from transferbench.datasets.download.http import DownloadError, download, verify
from transferbench.datasets.files import lock as locks
from transferbench.datasets.files.lock import locked

BODY = hashlib.shake_256(b"a data set").digest(300_000)
SHA256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
OTHER = bytes(reversed(BODY))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Loopback]:
    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "set.tar").write_bytes(BODY)
    with loopback(remote) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "here" / "set.tar"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.0, 0.0, 0.0))


@pytest.fixture
def fetch(server: Loopback, path: Path) -> Callable[..., None]:
    """Fetch the server's file, with faults set."""

    def run(fault: Fault | None = None, checksum: str = SHA256, **given: int) -> None:
        server.faults = {"/set.tar": fault} if fault else {}
        download(f"{server.url}/set.tar", path, checksum=checksum, **given)

    return run


@pytest.fixture
def start(server: Loopback, path: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    """Start processes that fetch the server's file."""
    started: list[subprocess.Popen] = []
    code = (
        "import sys; from pathlib import Path; from transferbench.datasets.download.http import download; "
        f"download({server.url!r} + '/set.tar', Path({str(path)!r}), checksum={SHA256!r})"
    )

    def run() -> subprocess.Popen:
        started.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def beside(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def cut(fetch: Callable[..., None], path: Path, **fault: object) -> None:
    """Leave a part of 100,000 bytes behind."""
    with pytest.raises(DownloadError, match="cut after 100,000 of 300,000 bytes"):
        fetch(Fault(cut_after=100_000, no_range=True, **fault))
    assert path.with_name("set.tar.part").read_bytes() == BODY[:100_000]


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("given", [{}, {"num_bytes": len(BODY)}, {"checksum": MD5.upper()}])
def test_a_file_comes_whole_and_alone(fetch, server, path, given):
    fetch(**given)
    assert path.read_bytes() == BODY
    assert beside(path) == ["set.tar"]
    assert [r.num_bytes for r in server.requests] == [len(BODY)]


def test_an_empty_file_comes_too(fetch, server, path):
    (server.folder / "set.tar").write_bytes(b"")
    fetch(checksum="")
    assert path.read_bytes() == b""


@pytest.mark.parametrize("fault", [{"untold": True}, {"chunked": True}])
def test_a_file_whose_size_nobody_tells_comes_too(fetch, server, path, fault):
    fetch(Fault(**fault))
    assert path.read_bytes() == BODY
    assert len(server.requests) == 1


def test_a_finished_file_is_left_as_it_is(fetch, server, path):
    path.parent.mkdir()
    path.write_bytes(BODY)
    before = path.stat().st_mtime_ns
    fetch()
    fetch(checksum="")
    fetch(checksum="", num_bytes=len(BODY))
    assert server.requests == []
    assert path.stat().st_mtime_ns == before


def test_a_finished_file_is_taken_from_a_folder_that_cannot_be_written_to(fetch, path, monkeypatch):
    path.parent.mkdir()
    path.write_bytes(BODY)
    monkeypatch.setattr(module, "locked", lambda *_: pytest.fail("a lock was made"))
    fetch()


@pytest.mark.parametrize("given", [{}, {"checksum": "", "num_bytes": len(BODY)}])
def test_another_file_in_its_place_is_replaced(fetch, server, path, given):
    path.parent.mkdir()
    path.write_bytes(OTHER[:-1])
    fetch(**given)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_download_goes_on_where_it_ended(fetch, server, path, reset):
    fetch(Fault(times=1, cut_after=100_000, reset=reset))
    assert path.read_bytes() == BODY
    first, second = server.requests
    assert "Range" not in first.headers
    begun = int(second.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    assert second.status == 206
    assert second.num_bytes == len(BODY) - begun
    assert begun == 100_000 or (reset and begun <= 100_000)  # a reset may lose what was on the way
    assert second.headers["If-Range"].startswith('"')


def test_a_later_call_goes_on_with_what_an_earlier_one_left(fetch, server, path):
    cut(fetch, path)
    assert beside(path) == ["set.tar.part", "set.tar.part.json"]
    server.requests.clear()
    fetch()
    assert path.read_bytes() == BODY
    assert [r.num_bytes for r in server.requests] == [200_000]
    assert beside(path) == ["set.tar"]


def test_a_cut_in_a_file_of_unknown_size_is_seen(fetch, server, path):
    fetch(Fault(times=1, chunked=True, cut_after=100_000))
    assert path.read_bytes() == BODY
    assert [r.num_bytes for r in server.requests] == [100_000, 200_000]


def test_cuts_do_not_count_while_more_comes_each_time(fetch, server, path):
    fetch(Fault(cut_after=30_000))
    assert path.read_bytes() == BODY
    assert [r.num_bytes for r in server.requests] == [30_000] * 10


def test_a_cut_that_brings_nothing_new_ends_it_after_growing_pauses(fetch, server, path, monkeypatch):
    slept = []
    monkeypatch.setattr(module, "PAUSES_SECONDS", (1, 2, 4))
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=slept.append))
    cut(fetch, path)
    assert slept == [1, 2, 4]
    assert len(server.requests) == 4


def test_a_server_that_ignores_ranges_starts_anew(fetch, server, path):
    cut(fetch, path)
    server.requests.clear()
    fetch(Fault(no_range=True))
    assert path.read_bytes() == BODY
    assert [(r.status, r.num_bytes) for r in server.requests] == [(200, len(BODY))]


@pytest.mark.parametrize("tags", [{}, {"etag": 'W/"weak"'}])
def test_a_file_that_changed_since_is_not_glued(fetch, server, path, tags):
    cut(fetch, path, **tags)
    (server.folder / "set.tar").write_bytes(OTHER)
    os.utime(server.folder / "set.tar", (1e9, 1e9))
    fetch(Fault(**tags), checksum="")
    assert path.read_bytes() == OTHER
    assert server.requests[-1].headers["If-Range"]


@pytest.mark.parametrize(("changed", "no_tags"), [(OTHER, False), (OTHER + b"more", True)])
def test_a_changed_file_is_not_glued_by_a_careless_server_either(fetch, server, path, changed, no_tags):
    cut(fetch, path, no_tags=no_tags)
    (server.folder / "set.tar").write_bytes(changed)
    fetch(Fault(careless=True, no_tags=no_tags), checksum="")
    assert path.read_bytes() == changed
    assert [r.status for r in server.requests[-2:]] == [206, 200]


def test_other_bytes_than_asked_for_are_not_glued(fetch, server, path):
    cut(fetch, path)
    server.requests.clear()
    fetch(Fault(shift=10), checksum="")
    assert path.read_bytes() == BODY
    assert [r.status for r in server.requests] == [206, 200]


def test_without_tags_the_size_tells_files_apart(fetch, server, path):
    cut(fetch, path, no_tags=True)
    server.requests.clear()
    fetch(Fault(no_tags=True))
    assert path.read_bytes() == BODY
    assert [r.num_bytes for r in server.requests] == [200_000]
    assert "If-Range" not in server.requests[0].headers


def test_a_part_of_another_address_is_not_gone_on_with(fetch, server, path):
    cut(fetch, path, no_tags=True)
    (server.folder / "mirror.tar").write_bytes(OTHER)
    server.faults["/mirror.tar"] = Fault(no_tags=True)
    download(f"{server.url}/mirror.tar", path)
    assert path.read_bytes() == OTHER


@pytest.mark.parametrize("note", [None, "", "{}", "[1]", '{"url": 1, "what": 2}'])
def test_a_part_of_unknown_origin_is_not_gone_on_with(fetch, server, path, note):
    path.parent.mkdir()
    path.with_name("set.tar.part").write_bytes(OTHER[:1000])
    if note is not None:
        path.with_name("set.tar.part.json").write_text(note)
    fetch()
    assert path.read_bytes() == BODY
    assert "Range" not in server.requests[0].headers


@pytest.mark.parametrize("fault", [None, Fault(status=416)])
def test_a_part_that_is_the_whole_is_taken(fetch, server, path, fault):
    cut(fetch, path)
    path.with_name("set.tar.part").write_bytes(BODY)
    fetch(fault)
    assert path.read_bytes() == BODY
    assert (server.requests[-1].status, server.requests[-1].num_bytes) == (416, 0)


def test_a_part_beyond_the_whole_starts_anew(fetch, server, path):
    cut(fetch, path)
    path.with_name("set.tar.part").write_bytes(BODY + b"more")
    fetch()
    assert path.read_bytes() == BODY
    assert [r.status for r in server.requests[-2:]] == [416, 200]


@pytest.mark.parametrize("checksum", [SHA256, MD5])
def test_a_wrong_sum_is_told_with_both_and_nothing_is_kept(fetch, server, path, checksum):
    kind = checksum.partition(":")[0]
    with pytest.raises(DownloadError) as caught:
        fetch(Fault(body=OTHER), checksum=checksum)
    found = f"{kind}:{hashlib.new(kind, OTHER).hexdigest()}"
    assert str(caught.value) == f"{server.url}/set.tar: has {found}; expected {checksum}"
    assert beside(path) == []
    assert len(server.requests) == 1


def test_another_size_stops_before_a_byte_is_written(fetch, server, path, monkeypatch):
    monkeypatch.setattr(module, "_receive", lambda *_: pytest.fail("the file was read"))
    with pytest.raises(DownloadError, match=r"has 300,000 bytes; expected 299,999$"):
        fetch(num_bytes=299_999)
    assert beside(path) == []


def test_a_body_that_is_too_short_is_not_taken(fetch, path):
    with pytest.raises(DownloadError, match=r"300,000 bytes; expected 300,001"):
        fetch(Fault(untold=True), num_bytes=300_001)
    assert beside(path) == []


@pytest.mark.parametrize("given", [{"num_bytes": len(BODY)}, {}])
def test_a_server_without_end_is_left_at_once(fetch, server, path, monkeypatch, given):
    monkeypatch.setattr(module, "MOST_BYTES", 500_000)
    most = given.get("num_bytes", 500_000)
    with pytest.raises(DownloadError, match=f"sends more than {most:,} bytes, the limit"):
        fetch(Fault(endless=True), **given)
    assert beside(path) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 410, 500])
def test_a_status_is_final_and_told(fetch, server, path, status):
    with pytest.raises(DownloadError, match=rf"^{server.url}/set.tar: HTTP {status}$"):
        fetch(Fault(status=status))
    assert len(server.requests) == 1
    assert beside(path) == []


def test_an_error_that_names_another_place_is_not_followed(fetch, server):
    with pytest.raises(DownloadError, match=r"set.tar: HTTP 404$"):
        fetch(Fault(status=404, location="/other"))
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(fetch, server, path):
    fetch(Fault(status=503, times=2))
    assert path.read_bytes() == BODY
    assert [r.status for r in server.requests] == [503, 503, 200]


def test_a_server_that_stays_busy_is_told(fetch, server):
    with pytest.raises(DownloadError, match=r"set.tar: HTTP 429$"):
        fetch(Fault(status=429))
    assert len(server.requests) == 4


def test_a_stalled_transfer_is_cut_and_goes_on(fetch, server, path, gate, monkeypatch):
    opener, limits = module.OPENER, iter([0.1])

    def open_within(request: object, timeout: float) -> object:
        return opener.open(request, timeout=next(limits, timeout))

    monkeypatch.setattr(module, "OPENER", SimpleNamespace(open=open_within))
    fetch(Fault(times=1, gate=gate))
    assert path.read_bytes() == BODY
    assert len(server.requests) == 2


def test_a_server_that_never_answers_times_out(path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DownloadError, match="timed out"):
        download(f"http://127.0.0.1:{silent.getsockname()[1]}/set.tar", path)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (1,))
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: pytest.fail("tried again")))


@pytest.mark.usefixtures("at_once")
def test_an_unknown_name_is_told_at_once(path, monkeypatch):
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    monkeypatch.setattr(socket, "getaddrinfo", Mock(side_effect=unknown))
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DownloadError) as caught:
        download("https://www.robots.ox.ac.uk/pets.tar", path)
    assert str(caught.value) == "www.robots.ox.ac.uk: cannot be reached (Name or service not known)"


@pytest.mark.usefixtures("at_once")
def test_a_refusal_is_told_at_once(server, path):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(DownloadError, match=r"^127.0.0.1: cannot be reached \(Connection refused\)$"):
        download(f"http://127.0.0.1:{port}/set.tar", path)


def test_a_network_lost_on_the_way_is_waited_for(fetch, server, path, monkeypatch):
    opener = module.OPENER
    lost = URLError(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    answers = iter([opener.open, Mock(side_effect=lost), opener.open])
    monkeypatch.setattr(module, "OPENER", SimpleNamespace(open=lambda *a, **k: next(answers)(*a, **k)))
    fetch(Fault(times=1, cut_after=100_000))
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://host/set.tar", "data:,x", "set.tar", "http:///set.tar"]
)
def test_only_http_addresses_are_fetched(path, url):
    with pytest.raises(InputError, match="expected an http or https URL") as caught:
        download(url, path)
    assert not isinstance(caught.value, DownloadError)
    assert not path.parent.exists()


def test_an_impossible_address_is_told(path):
    with pytest.raises(DownloadError, match="cannot be reached"):
        download("http://127.0.0.1:port/set.tar", path)


@pytest.mark.parametrize("checksum", ["sha1:" + 40 * "0", "md5:" + 64 * "0", 64 * "0", "sha256:"])
def test_an_unknown_kind_of_sum_is_told_before_a_byte_comes(fetch, server, checksum):
    with pytest.raises(InputError, match="expected sha256:<64 digits> or md5:<32 digits>"):
        fetch(checksum=checksum)
    assert server.requests == []


def test_a_redirect_is_followed_with_the_range(fetch, server, path):
    server.faults["/moved"] = Fault(status=302, location="/set.tar")
    server.faults["/set.tar"] = Fault(times=1, cut_after=100_000)
    download(f"{server.url}/moved", path, checksum=SHA256)
    assert [r.status for r in server.requests] == [302, 200, 302, 206]
    assert server.requests[-1].num_bytes == 200_000


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/set.tar", "data:,x"])
def test_a_redirect_to_anything_but_http_is_not_followed(fetch, server, path, target):
    with pytest.raises(DownloadError, match=f"redirects to {target}; expected https or http"):
        fetch(Fault(status=302, location=target), checksum="")
    assert beside(path) == []


def test_a_redirect_from_https_stays_there():
    assert module._redirect("https://a.org/x", "//b.org/y") == "https://b.org/y"
    with pytest.raises(DownloadError, match="redirects to http://b.org/y; expected https$"):
        module._redirect("https://a.org/x", "http://b.org/y")


def test_redirects_in_a_circle_end(fetch, server):
    with pytest.raises(DownloadError, match="more than 10 redirects"):
        fetch(Fault(status=301, location="/set.tar"))
    assert len(server.requests) == 11


@pytest.mark.parametrize("num_bytes", [len(BODY), 0])
def test_a_disk_without_room_is_told_before_a_byte_comes(fetch, server, path, monkeypatch, num_bytes):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000))
    monkeypatch.setattr(module, "_receive", lambda *_: pytest.fail("the file was read"))
    with pytest.raises(InputError) as caught:
        fetch(num_bytes=num_bytes)
    assert str(caught.value).startswith(f"{path.parent}: set.tar needs 300.0 kB and 5.0 kB are free;")
    assert not isinstance(caught.value, DownloadError)
    assert len(server.requests) == (0 if num_bytes else 1)


def test_room_is_needed_for_the_rest_alone(fetch, path, monkeypatch):
    cut(fetch, path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000))
    fetch(num_bytes=len(BODY))
    assert path.read_bytes() == BODY


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_line(fetch, path):
    path.parent.mkdir()
    path.with_name("set.tar.part").symlink_to("/dev/full")
    with pytest.raises(InputError) as caught:
        fetch()
    assert str(caught.value).startswith(f"{path.parent}: no space left for set.tar; free some")
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, DownloadError)


def test_a_short_write_is_followed_by_the_rest():
    written = []
    file = SimpleNamespace(write=lambda data: written.append(bytes(data[:4])) or len(written[-1]))
    module._write(file, b"0123456789")
    assert written == [b"0123", b"4567", b"89"]


def test_a_disk_that_fills_up_keeps_what_has_come(fetch, server, path, monkeypatch):
    def fill(file: io.FileIO, data: bytes) -> None:
        file.write(data[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", fill)
        with pytest.raises(InputError, match="no space left for set.tar"):
            fetch()
    assert path.with_name("set.tar.part").read_bytes() == BODY[:1000]
    fetch()
    assert path.read_bytes() == BODY
    assert server.requests[-1].num_bytes == len(BODY) - 1000


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["mkdir", "open", "replace"])
def test_a_folder_that_cannot_be_written_to_is_one_line(fetch, path, monkeypatch, code, call):
    monkeypatch.setattr(Path, call, Mock(side_effect=OSError(code, os.strerror(code))))
    with pytest.raises(InputError) as caught:
        fetch(checksum="")
    assert str(caught.value) == (
        f"{path.parent}: set.tar cannot be written ({os.strerror(code)}); expected a writable folder"
    )
    assert not isinstance(caught.value, DownloadError)


def test_two_processes_that_want_one_file_fetch_it_once(server, path, start, gate):
    server.faults["*"] = Fault(gate=gate)
    first = start()
    wait_until(lambda: server.requests)
    second = start()
    assert second.stderr.readline() == "another process is downloading set.tar; waiting\n"
    time.sleep(0.3)  # in which it would ask, if it did not wait
    gate.set()
    assert [p.communicate(timeout=120)[1] for p in (first, second)] == ["", ""]
    assert (first.returncode, second.returncode) == (0, 0)
    assert path.read_bytes() == BODY
    assert len(server.requests) == 1
    assert beside(path) == ["set.tar"]


def test_a_killed_process_keeps_nobody_waiting(fetch, server, path, start, gate):
    server.faults["*"] = Fault(gate=gate)
    process = start()
    part = path.with_name("set.tar.part")
    wait_until(lambda: part.exists() and part.stat().st_size > 0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.with_name("set.tar.lock").exists()
    server.requests.clear()
    fetch()
    assert path.read_bytes() == BODY
    assert [r.status for r in server.requests] == [206]
    assert beside(path) == ["set.tar"]


def test_a_lock_holds_and_lets_go(tmp_path, capfd):
    path, code = (
        tmp_path / "x",
        "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)",
    )
    with locked(path, "busy"):
        held = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "x.lock"], capture_output=True, text=True
        )
    assert "BlockingIOError" in held.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_lock_removed_while_waiting_is_taken_anew(tmp_path, monkeypatch):
    lock, wait, waits = tmp_path / "x.lock", locks._wait, []

    def lose(file: io.TextIOWrapper, words: str) -> None:
        wait(file, words)
        waits.append(words)
        if len(waits) < 3:
            lock.unlink()
        if len(waits) == 2:
            lock.touch()  # that of a third process

    monkeypatch.setattr(locks, "_wait", lose)
    with locked(tmp_path / "x", "busy"):
        assert len(waits) == 3
        assert lock.exists()
    assert not lock.exists()


def test_a_file_system_without_locks_is_no_hindrance(fetch, path, monkeypatch):
    monkeypatch.setattr(file_lock.fcntl, "flock", Mock(side_effect=OSError(errno.ENOTSUP, "not supported")))
    fetch()
    assert beside(path) == ["set.tar"]


def test_nothing_is_said_when_stderr_is_no_terminal(fetch, capfd):
    fetch()
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_the_words_and_how_much_has_come(server, path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    download(f"{server.url}/set.tar", path, description="fetching [pets]")
    assert "fetching [pets]" in terminal.getvalue()
    assert "300.0 kB" in terminal.getvalue()


def test_a_sum_is_verified(tmp_path):
    file = tmp_path / "set.tar"
    assert not verify(file, SHA256)
    assert not verify(file, "")
    file.write_bytes(BODY)
    assert verify(file, SHA256)
    assert verify(file, MD5.upper())
    assert verify(file, "")
    assert not verify(file, MD5[:-1] + ("0" if MD5[-1] != "0" else "1"))
    assert not verify(tmp_path, SHA256)
