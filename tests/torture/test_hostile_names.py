"""Names of folders with any characters, in every setting that takes a path, and damaged lists of names."""

import os

import pytest
from hostile import damaged, fuzz
from hypothesis import strategies as st
from transferbench import InputError
from transferbench.analysis.records.data_sets import shown_names
from transferbench.benchmarks.config.compose import split_override
from transferbench.datasets.planted import short_name
from transferbench.datasets.storage.tar_shards import class_names
from transferbench.user_text import one_form, split_paths

SIGNS = st.sampled_from(
    [*" ,'\"[]{}()=~$#%\\`*?!&|;<>:@-\n\r\t", "${", "..", "null", "\ufeff", "e\u0301", "é"]
)
NAMES = st.lists(st.one_of(SIGNS, st.characters()), min_size=1, max_size=12).map("".join)
SETTINGS = ("target", "source", "results", "checkpoint", "cluster", "data.root")
LIST = "robin\r\ntwo words\r\nZürich\r\n"


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_path_is_itself_or_one_line(tally, not_yet, setting):
    not_yet("hostile names", setting)

    def check(name: str) -> None:
        given = f"/there/{name}"
        try:
            key, value = split_override(f"{setting}={given}")
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert "\0" in name or any("\ud800" <= char <= "\udfff" for char in name)  # noqa: PT017
            return
        assert (key, value) == (setting, given)
        shown = short_name(given)
        assert shown == one_form(shown)
        assert shown not in ("", ".", "..")
        assert "/" not in shown
        assert ",".join(split_paths(given)) == given

    tally.note("hostile names", setting, fuzz(check, NAMES, tally.times(50, 3000), tally.is_long))


def test_names_of_a_results_folder_stay_apart(tally, not_yet):
    not_yet("hostile names", "results folder")
    place = st.fixed_dictionaries({"name": NAMES, "place": st.sampled_from(["", "1", "2"])})
    one = st.fixed_dictionaries(
        {
            "target": st.sampled_from(["x", "y"]),
            "source": st.just("none"),
            "fingerprints": st.fixed_dictionaries({"target": st.sampled_from("abc")}),
            "data_sets": st.fixed_dictionaries({"target": place}),
        }
    )

    def check(records: list) -> None:
        shown = shown_names(records)
        targets = [key for key in shown if key.role == "target"]
        by_name = {name: [key for key in targets if key.name == name] for name in ("x", "y")}
        for keys in by_name.values():
            assert len({shown[key].name for key in keys}) == len(keys)

    tried = fuzz(check, st.lists(one, min_size=1, max_size=6), tally.times(50, 3000), tally.is_long)
    tally.note("hostile names", "results folder", tried)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_damaged_lists_of_names(tally, not_yet, tmp_path, encoding):
    not_yet("damaged lists", f"class names in {encoding}")
    path = tmp_path / "classes.txt"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            names = class_names(tmp_path, 1)
        except InputError as error:
            assert str(error).startswith(os.fspath(path))  # noqa: PT017
            return
        assert all(name == one_form(name).strip() for name in names)
        assert "\ufeff" not in names[0][:1] or data.count(b"\xef\xbb\xbf") > 1 or encoding == "utf-16"

    tried = fuzz(check, damaged([LIST.encode(encoding)]), tally.times(50, 2000), tally.is_long)
    tally.note("damaged lists", f"class names in {encoding}", tried)
