"""MATLAB files as MATLAB and scipy write them: numbers, texts, cells and structures."""

import struct

import numpy as np
import pytest
from scipy.io import savemat
from transferbench import InputError
from transferbench.datasets.reading import matlab


def written(tmp_path, compressed=False, **content):
    path = tmp_path / "a.mat"
    savemat(path, content, do_compression=compressed)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_what_was_written_is_read(tmp_path, compressed):
    numbers = {kind: np.arange(6, dtype=kind).reshape(1, 2, 3) for kind in matlab.NUMERIC.values()}
    cells = np.array(["a", "longer than eight", "", "Shih-Tzu é ☃"], object)
    rows = np.empty((1, 2), [("class", object), ("fname", object)])
    rows[0, 0], rows[0, 1] = (np.uint8(3), "00001.jpg"), (np.uint16(400), "2.jpg")
    path = written(tmp_path, compressed, cells=cells, rows=rows, **{f"n_{k}": v for k, v in numbers.items()})
    with matlab.variables(path, "all of it") as found:
        assert found["cells"] == cells.tolist()
        assert [(r["class"].item(), r["fname"]) for r in found["rows"]] == [(3, "00001.jpg"), (400, "2.jpg")]
        for kind, array in numbers.items():
            assert found[f"n_{kind}"].dtype == np.dtype(kind)
            assert np.array_equal(found[f"n_{kind}"], array)


def element(kind: int, data: bytes) -> bytes:
    """Write an element as MATLAB does on a machine of the other byte order."""
    if len(data) <= 4:
        return struct.pack(">HH", len(data), kind) + data.ljust(4, b"\0")
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)


def test_numbers_that_matlab_packed_in_the_other_byte_order(tmp_path):
    """Doubles that are whole are kept in as few bytes as they need."""
    parts = [element(6, struct.pack(">II", 6, 0)), element(5, struct.pack(">ii", 3, 1)), element(1, b"x")]
    matrix = element(14, b"".join([*parts, element(4, struct.pack(">3H", 1, 2, 300))]))
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + matrix)
    with matlab.variables(path, "x") as found:
        assert found["x"].dtype == np.float64
        assert found["x"].tolist() == [[1], [2], [300]]


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "MOST_BYTES", 1000)
    path = written(tmp_path, True, x=np.zeros(2000))
    with pytest.raises(InputError, match=r"a\.mat: cut or damaged; expected x"), matlab.variables(path, "x"):
        pass


def test_what_goes_wrong_in_the_block_is_said_of_the_file(tmp_path):
    path = written(tmp_path, x=np.zeros(2))
    with (
        pytest.raises(InputError, match=r"a\.mat: cut or damaged; expected y"),
        matlab.variables(path, "y") as found,
    ):
        found["y"]
    with pytest.raises(FileNotFoundError), matlab.variables(tmp_path / "b.mat", "y"):
        pass


@pytest.mark.parametrize(("number", "label"), [(1, 0), (np.uint8([[3]]), 2), (0, None), (4, None)])
def test_numbers_of_classes_begin_at_1(number, label):
    if label is not None:
        assert matlab.label_of(number, 3) == label
        return
    with pytest.raises(ValueError, match="expected 1 to 3"):
        matlab.label_of(number, 3)


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a//b", "a\0", "x" * 300, 3, "\udcff"])
def test_names_that_lead_elsewhere(name):
    with pytest.raises(ValueError, match="the image"):
        matlab.path_of(name)
    assert matlab.path_of("n1-dog/n1_2.jpg") == "n1-dog/n1_2.jpg"
