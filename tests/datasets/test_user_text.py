"""Texts that people wrote, with what their editors leave: byte order marks and Windows' line ends."""

import pytest
from transferbench import InputError
from transferbench.datasets.storage.tar_shards import class_names
from transferbench.plain_yaml import read_yaml
from transferbench.user_text import read_text, split_paths


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_it_reads_as_it_was_meant(tmp_path, encoding, end):
    path = tmp_path / "classes.txt"
    path.write_bytes(end.join(["Zürich", "two words", ""]).encode(encoding))
    assert read_text(path) == "Zürich\ntwo words\n"
    assert class_names(tmp_path, 2) == ("Zürich", "two words")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_yaml_too(tmp_path, encoding):
    path = tmp_path / "mine.yaml"
    path.write_bytes("partition: main\r\nminutes: 20\r\n".encode(encoding))
    assert read_yaml(path) == {"partition": "main", "minutes": 20}


def test_another_encoding_is_one_line(tmp_path):
    (tmp_path / "classes.txt").write_bytes("Zürich".encode("latin-1"))
    with pytest.raises(InputError, match=r"classes.txt: not UTF-8 .*one class name a line"):
        class_names(tmp_path, 1)


def test_a_list_of_names_is_split_at_commas():
    assert split_paths("digits,glyphs") == ["digits", "glyphs"]
