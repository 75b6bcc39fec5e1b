"""A data set from the Hugging Face hub: a made repository of parquet files, served over loopback."""

import hashlib
import importlib
import io
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from layouts import pictures
from PIL import Image
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.datasets import catalog
from transferbench.datasets.about import About, Hub
from transferbench.datasets.download import huggingface
from transferbench.datasets.download.http import DownloadError
from transferbench.datasets.loading import official
from trees import TINY

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

HUB = Hub("made/animals", {"train": "train", "test": "validation"})
CLASSES = ("cat", "Class 1/2", "../escaped")
REVISION = "0123456789abcdef" * 2 + "01234567"
SIZES = {"train-00000-of-00002": 30, "train-00001-of-00002-9f": 24, "validation-00000-of-00001": 12}


def table(split: str, size: int, names: object = CLASSES, suffix: str = ".png", **columns) -> bytes:
    """Make a parquet file as the hub has it: `size` images, class by class in turn."""
    part = "test" if split == "validation" else "train"
    images = [{"bytes": pictures.encoded(i % 3, part, suffix), "path": f"{i}{suffix}"} for i in range(size)]
    content = {"image": images, "label": [i % 3 for i in range(size)], **columns}
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    if names is None:
        features["label"] = {"_type": "Value", "dtype": "int64"}
    kept = {"huggingface": json.dumps({"info": {"features": features}})}
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(content).replace_schema_metadata(kept), sink, row_group_size=10)
    return sink.getvalue().to_pybytes()


class Server(ThreadingHTTPServer):
    """A hub with one repository; says what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"data/{name}.parquet": table(name.split("-")[0], n) for name, n in SIZES.items()}
        self.files["README.md"] = b"made"
        self.refused: dict[str, tuple[int, str]] = {}  # file or "info": status and the hub's own code
        self.cut: set[str] = set()  # files that end in the middle
        self.asked: list[tuple[str, str]] = []  # method, file

    def info(self) -> bytes:
        siblings = [
            {"rfilename": name, "size": len(content), "lfs": {"size": len(content), "pointerSize": 130,
             "sha256": hashlib.sha256(content).hexdigest()}}
            for name, content in self.files.items()
        ]  # fmt: skip
        return json.dumps({"id": HUB.repo, "sha": REVISION, "siblings": siblings}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.removeprefix(f"/datasets/{HUB.repo}/resolve/{REVISION}/")
        info = path == f"/api/datasets/{HUB.repo}"
        self.server.asked.append((self.command, "info" if info else name))
        refused = self.server.refused.get("info" if info else name)
        if refused or not (info or name in self.server.files):
            status, code = refused or (404, "RepoNotFound")
            self.answer(status, b"", {"X-Error-Code": code} if code else {})
        elif info:
            self.answer(200, self.server.info(), {"Content-Type": "application/json"})
        else:
            content = self.server.files[name]
            etag = {"X-Repo-Commit": REVISION, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            self.answer(200, content, etag, name in self.server.cut)

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{made.server_port}")
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def seen(root: Path, row) -> tuple[int, str]:
    with Image.open(root / row.path) as image:
        return pictures.seen(np.asarray(image.convert("RGB")))


def downloads(server: Server) -> list[str]:
    return [name for method, name in server.asked if method == "GET" and name in server.files]


def test_parts_come_with_their_labels(server, tmp_path):
    copy = tmp_path / "a" / "copy"
    huggingface.fetch(HUB, copy)
    assert huggingface.is_copy(copy)
    listing = huggingface.read(copy)
    assert listing.classes == CLASSES
    assert {part: len(rows) for part, rows in listing.parts.items()} == {
        "train": 49,
        "holdout": 5,
        "test": 12,
    }
    for part, rows in listing.parts.items():
        assert [seen(copy, row) for row in rows] == [
            (r.label, "test" if part == "test" else "train") for r in rows
        ]
    assert {r.label for r in listing.parts["train"]} == {0, 1, 2}
    assert not {r.path for r in listing.parts["train"]} & {r.path for r in listing.parts["holdout"]}
    assert listing.notes == ("images from the hub's copy made/animals at 01234567",)


def test_a_copy_is_nothing_but_its_images_and_where_they_are_from(server, tmp_path):
    """Whatever the classes are called."""
    copy = tmp_path / "a" / "copy"
    huggingface.fetch(HUB, copy)
    assert sorted(p.name for p in copy.iterdir()) == [huggingface.MARKER, "test", "train"]
    assert {p.name for p in (copy / "train").iterdir()} == {"00000", "00001", "00002"}
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["copy"]
    listed = {row.path for rows in huggingface.read(copy).parts.values() for row in rows}
    assert listed == {p.relative_to(copy).as_posix() for p in copy.rglob("*.png")}


def test_the_published_sizes_say_how_much_is_held_out(server, tmp_path):
    huggingface.fetch(HUB, tmp_path / "copy")
    parts = huggingface.read(tmp_path / "copy", {"train": 4000, "holdout": 2000, "test": 12}).parts
    assert [len(parts[part]) for part in ("train", "holdout")] == [36, 18]
    assert [r.label for r in parts["holdout"]].count(1) == 6
    assert huggingface.read(tmp_path / "copy", {"train": 54, "test": 12}).parts.keys() == {"train", "test"}


def test_a_holdout_of_the_hub_is_taken_as_it_is(server, tmp_path):
    huggingface.fetch(Hub(HUB.repo, {"train": "train", "holdout": "validation"}), tmp_path / "copy")
    listing = huggingface.read(tmp_path / "copy", {"train": 30, "holdout": 30})
    assert {part: len(rows) for part, rows in listing.parts.items()} == {"train": 54, "holdout": 12}


def test_files_that_have_come_are_not_fetched_again(server, tmp_path, monkeypatch):
    first, second, third = sorted(name for name in server.files if name.startswith("data/"))
    server.cut.add(second)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the library waits before each new try
    for limit in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.setattr(constants, limit, 120)
    with pytest.raises(DownloadError, match="peer closed"):
        huggingface.fetch(HUB, tmp_path / "copy")
    assert not huggingface.is_copy(tmp_path / "copy")
    assert set(downloads(server)) == {first, second}
    server.cut.clear()
    server.asked.clear()
    huggingface.fetch(HUB, tmp_path / "copy")
    assert downloads(server) == [second, third]
    assert len(huggingface.read(tmp_path / "copy").parts["train"]) == 49


def test_an_earlier_try_leaves_no_images_behind(server, tmp_path):
    old = tmp_path / "copy" / "train" / "00002" / "00000999.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    huggingface.fetch(HUB, tmp_path / "copy")
    assert not old.exists()


@pytest.mark.parametrize("library", ["pyarrow", "huggingface_hub"])
def test_without_its_libraries_it_says_how_to_get_them(library, server, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.parquet", None)
    with pytest.raises(DownloadError, match=rf"^needs {library}: `pip install -e '\.\[hub\]'` in "):
        huggingface.fetch(HUB, tmp_path / "copy")
    assert not server.asked


@pytest.mark.parametrize(("status", "code"), [(401, "GatedRepo"), (403, "GatedRepo"), (403, "")])
@pytest.mark.parametrize("what", ["info", "data/train-00000-of-00002.parquet"])
def test_a_gated_repository_says_what_to_do(what, status, code, server, tmp_path):
    server.refused[what] = status, code
    with pytest.raises(DownloadError, match="^gated: accept the terms and log in .*datasets/made/animals"):
        huggingface.fetch(HUB, tmp_path / "copy")


@pytest.mark.parametrize("status", [401, 404])
def test_a_repository_that_is_missing(status, server, tmp_path):
    server.refused["info"] = status, "RepoNotFound"
    with pytest.raises(DownloadError, match="^no such repository"):
        huggingface.fetch(HUB, tmp_path / "copy")


def test_a_busy_hub_is_a_line(server, tmp_path):
    server.refused["info"] = 500, ""
    with pytest.raises(DownloadError, match="500") as raised:
        huggingface.fetch(HUB, tmp_path / "copy")
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, InputError)


def test_a_machine_without_network_learns_it_at_once(server, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(DownloadError, match="127.0.0.1 cannot be reached"):  # of the hub's library: refused
        huggingface.fetch(HUB, tmp_path / "copy")


def test_offline_mode_asks_nobody(server, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="offline mode is enabled"):
        huggingface.fetch(HUB, tmp_path / "copy")
    assert not server.asked


TRAIN = "data/train-00000-of-00002.parquet"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (TRAIN, table("train", 6, names=None), "column label has no class names"),
        (TRAIN, table("train", 6, names={"0": "cat"}), "column label has no class names"),
        (TRAIN, table("train", 6, names=["cat", "dog", "elk"]), "different class names"),
        (TRAIN, table("train", 3, label=[0, 1, 3]), "row 2 of train: label 3; expected 0 to 2"),
        (TRAIN, table("train", 3, label=[0, -1, 2]), "row 1 of train: label -1;"),
        (TRAIN, table("train", 3, label=[None, 1, 2]), "row 0 of train: label None;"),
        (TRAIN, table("train", 1, image=[{"bytes": None, "path": "x"}]), "row 0 of train: no image"),
        (TRAIN, b"PAR1" + bytes(40), "damaged parquet files"),
        ("data/train-00002-of-00003.parquet", b"", "3 parquet files of train; expected 2"),
    ],
)
def test_a_repository_that_is_not_as_it_should_be(name, content, reason, server, tmp_path):
    server.files[name] = content
    with pytest.raises(DownloadError, match=reason):
        huggingface.fetch(HUB, tmp_path / "copy")
    assert not huggingface.is_copy(tmp_path / "copy")


@pytest.mark.parametrize(
    ("hub", "reason"),
    [
        (Hub(HUB.repo, {"train": "train", "test": "test"}), "no parquet files of test"),
        (Hub(HUB.repo, {"train": "train"}, config="small"), "no parquet files of small train"),
        (Hub(HUB.repo, {"train": "train"}, label="breed"), "no column breed; it has image, label"),
    ],
)
def test_a_split_or_column_that_is_missing(hub, reason, server, tmp_path):
    with pytest.raises(DownloadError, match=reason):
        huggingface.fetch(hub, tmp_path / "copy")


def test_a_file_with_another_sum_is_not_kept(server, tmp_path, monkeypatch):
    good = server.files[TRAIN]
    told = server.info()
    server.files[TRAIN] = good[:-1] + b"X"
    monkeypatch.setattr(server, "info", lambda: told)
    with pytest.raises(DownloadError, match="its checksum differs from the hub's"):
        huggingface.fetch(HUB, tmp_path / "copy")
    server.files[TRAIN] = good
    huggingface.fetch(HUB, tmp_path / "copy")
    assert huggingface.is_copy(tmp_path / "copy")


@pytest.mark.parametrize("folder", ["", "data/", "small/", "data/small/", "small-", "data/small-"])
def test_files_are_found_by_their_configuration(folder, server, tmp_path):
    server.files = {f"{folder}train-00000-of-00001.parquet": table("train", 20)}
    if "small" in folder:
        server.files[folder.replace("small", "large") + "train-00000-of-00001.parquet"] = table("train", 9)
    config = "small" if "small" in folder else ""
    huggingface.fetch(Hub(HUB.repo, {"train": "train"}, config=config), tmp_path / "copy")
    assert len(huggingface.read(tmp_path / "copy", {"train": 20}).parts["train"]) == 20


def test_a_file_is_named_after_what_is_in_it(server, tmp_path):
    kinds = [Image.new("RGB", (4, 4)) for _ in range(7)]
    formats = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    images = []
    for image, kind in zip(kinds, formats, strict=False):
        image.save(buffer := io.BytesIO(), kind)
        images.append({"bytes": buffer.getvalue(), "path": "wrong.txt"})
    images.append({"bytes": b"?", "path": "../../evil.jpg"})
    server.files = {"train-00000-of-00001.parquet": table("train", 7, image=images)}
    huggingface.fetch(Hub(HUB.repo, {"train": "train"}), tmp_path / "copy")
    rows = huggingface.read(tmp_path / "copy", {"train": 7}).parts["train"]
    assert [Path(r.path).suffix for r in rows] == [".jpg", ".png", ".webp", ".gif", ".bmp", ".tif", ".img"]


def test_a_data_set_is_loaded_from_the_hub(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TRANSFERBENCH_DATA", raising=False)
    sizes = {"train": 36, "holdout": 18, "test": 12}
    module = importlib.import_module("transferbench.datasets.aircraft")
    about = About("Animals", "", "", 3, sizes, probes=("lists.txt",), hub=HUB)
    monkeypatch.setattr(module, "ABOUT", about)
    found = official.load("animals", module)
    assert {part: len(content.labels) for part, content in found.parts.items()} == sizes
    assert found.notes == ("animals: images from the hub's copy made/animals at 01234567",)
    assert [p.name for p in (tmp_path / "cache" / "data").iterdir()] == ["animals"]
    server.asked.clear()
    assert official.load("animals", module).fingerprint == found.fingerprint
    assert not server.asked


def test_a_name_on_the_hub_is_a_target(server, tmp_path, monkeypatch, capsys):
    """The splits are told by the names of the files, image and label by their types; downloaded once."""
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    catalog.load.cache_clear()
    assert main(["bench", "target=hf:made/animals", "source=none", "methods=scratch", "--dry-run"]) == 2
    assert "hf:made/animals: missing; a bench downloads it" in capsys.readouterr().err
    assert not server.asked
    found = catalog.load("hf:made/animals")
    assert (found.name, found.classes) == ("animals", CLASSES)
    assert {part: len(own.labels) for part, own in found.parts.items()} == {"train": 54, "holdout": 12}
    assert found.notes == (f"animals: images from the hub's copy made/animals at {REVISION[:8]}",)
    asked = len(server.asked)
    catalog.load.cache_clear()
    assert catalog.load("hf:made/animals", draw="test").parts["test"].labels.size == 12
    assert len(server.asked) == asked
    given = [
        "source=none",
        "methods=scratch",
        "draw=test",
        "yes=true",
        f"results={tmp_path / 'results'}",
        *TINY,
    ]
    assert main(["bench", "target=hf:made/animals", *given]) == 0
    assert "none -> animals:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        (["images/1.png"], "hf:made/animals", "no parquet files with a split train; .* hf download made"),
        (["a/train-00000-of-00001.parquet", "b/train-00000-of-00001.parquet"], "hf:made/animals",
         "several configurations; expected one of hf:made/animals/a, hf:made/animals/b"),
        ([], "hf:made animals", "expected hf:OWNER/NAME"),
        ([], "hf:made/other", "no such repository, or a private one"),
        (["plain"], "hf:made/animals", "no column of images and one of class labels"),
    ],
)  # fmt: skip
def test_a_set_of_the_hub_that_cannot_be_read(server, tmp_path, monkeypatch, files, name, message):
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    catalog.load.cache_clear()
    server.files = dict.fromkeys(files, b"made")
    if files == ["plain"]:
        server.files = {"data/train-00000-of-00001.parquet": table("train", 3, None)}
    with pytest.raises(InputError, match=message) as refused:
        catalog.load(name)
    assert "\n" not in str(refused.value)


def test_a_configuration_is_the_last_part_of_a_name(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    catalog.load.cache_clear()
    server.files = {
        f"{c}/train-00000-of-00001.parquet": table("train", n) for c, n in (("big", 30), ("few", 9))
    }
    assert len(catalog.load("hf:made/animals/few", as_source=True).parts["train"].labels) == 9
