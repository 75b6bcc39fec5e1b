"""Suites: the cells of tables and figures, the plan that is written of them, and the images beside them."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from transferbench import InputError
from transferbench.benchmarks.commands.class_images import NUM_CLASSES, PER_CLASS, write_class_images
from transferbench.benchmarks.config.compose import suites
from transferbench.benchmarks.launch.plan import row_of
from transferbench.benchmarks.launch.suite_plan import cells, load, not_taken, write_plan
from transferbench.datasets import catalog
from transferbench.methods import catalog as methods

EMBEDDED = ("source=glyphs", "targets=digits")
PARTS = [f"table{i}" for i in range(2, 8)] + [f"figure{i}" for i in range(2, 7)]


def table(name, *given):
    (suite,) = load(name, given)
    return suite


@pytest.mark.parametrize("name", [n for n in suites() if n not in ("paper", "small")])
def test_every_suite_can_be_planned_on_the_embedded_pair(name):
    planned = cells(table(name, *EMBEDDED, "seeds=2", "protocol=holdout", "tune=off"))
    assert all(cell.configs and not cell.reason for cell in planned)
    assert {c.target_name for cell in planned for c in cell.configs} == {"digits"}
    assert {c.seed for cell in planned for c in cell.configs} == {0, 1}


def test_a_figure_has_a_suite_and_the_paper_has_them_all():
    assert [s.name for s in load("paper", [])] == PARTS
    assert [s.name for s in load("small", [])] == [f"small-{part}" for part in PARTS]


def test_the_paper_trains_on_train_and_holdout_after_a_search():
    assert table("table2").settings == {"protocol": "trainval", "tune": "paper_grid"}
    assert table("table2").num_seeds == 3
    assert table("table2").targets == ["birds", "pets", "cars", "aircraft", "food"]


def test_the_rates_of_the_planted_suite_are_given_and_not_tuned():
    """On images of one's own, and from weights, too."""
    assert table("planted", "targets=../mine", "checkpoint=w.pth").settings["tune"] == "off"


def test_the_suites_of_planted_sources_have_the_same_settings():
    planted, harm = table("planted").settings, table("harm").settings
    assert harm == {k: v for k, v in planted.items() if k != "method.scale"}  # of DoGE and DVRL


def test_small_overrides_the_paper_and_the_user_overrides_small():
    first = load("small", [])[0]
    assert first.settings == {"protocol": "holdout", "tune": "off"}
    first = load("small", ["tune=paper_grid", "seeds=5"])[0]
    assert first.settings == {"protocol": "holdout", "tune": "paper_grid"}
    assert first.num_seeds == 5


def test_the_rows_own_settings_cannot_be_overridden():
    """The user's five shots are for rows that leave the shots open."""
    planned = cells(table("table6", *EMBEDDED, "shots=5", "protocol=holdout", "tune=off", "seeds=1"))
    assert [cell.configs[0].shots for cell in planned] == [None, None, None, 10, 10]
    planned = cells(table("table2", *EMBEDDED, "shots=7", "protocol=holdout", "tune=off", "seeds=1"))
    assert [cell.configs[0].shots for cell in planned] == [7, 7, 7]


def test_a_method_setting_goes_to_the_rows_that_have_it():
    planned = cells(table("figure5", *EMBEDDED, "method.policy_lr=0.5", "method.num_actions=3", "seeds=1"))
    assert [cell.configs[0].settings.num_actions for cell in planned] == [6, 11, 21, 101]
    assert {cell.configs[0].settings.policy_lr for cell in planned} == {0.5}
    planned = cells(table("figure3", *EMBEDDED, "method.num_actions=3", "seeds=1"))
    assert {c.method for c in planned} == {"finetune", "l2tl"}


def test_shots_are_varied_up_to_what_there_is():
    planned = cells(table("figure3", *EMBEDDED, "seeds=1"))
    fine_tuning = [cell for cell in planned if cell.row == "Fine-tuning"]
    assert [cell.at for cell in fine_tuning] == ["1", "5", "10", "20", "40", "60", "all"]
    assert [c.configs[0].shots for c in fine_tuning] == [1, 5, 10, 20, 40, 60, None]
    (suite,) = load("figure3", EMBEDDED)
    suite.vary["shots"] = [60, 61]
    few, many = cells(suite)[:2]
    assert few.reason == ""
    assert many.reason == "a class of digits has only 60 training images"
    assert many.configs == []


def test_every_method_has_a_row():
    rows = table("seeds").rows
    assert {row["method"] for row in rows.values()} == set(methods.names()) - {"pretrain"}


def test_images_that_are_not_here_leave_a_reason(root):
    (cell,) = cells(table("table4", "source=glyphs", "targets=aircraft"), fetch=False)
    assert cell.configs == []
    assert cell.reason.startswith("aircraft: missing")


def test_a_source_of_a_parts_own_gives_way_to_the_users():
    assert next(s for s in load("small", []) if s.name == "small-table3").source == "glyphs-large"
    assert "Table 3" not in {s.element for s in load("small", EMBEDDED)}


def test_a_plan_says_of_which_images_it_is():
    names = [s.name for s in load("small", ["source=/x/tiny.tar", "targets=/x/a,/x/b"])]
    assert re.fullmatch(r"small-table2-tiny-\w{6}-a-\w{6}-b-\w{6}", names[0])
    of_each = [re.sub(r"-[0-9a-f]{6}\b", "", n) for n in names if "table7" in n]
    assert of_each == ["small-table7-tiny-a", "small-table7-tiny-b"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("target=dtd", "target=dtd: not a setting of a suite; expected targets=NAME,NAME"),
        (
            "methods=l2tl",
            "methods=l2tl: not a setting of a suite; expected seeds=NUMBER; the suite file names the methods",
        ),
        ("seeds=none", "seeds=none: expected a whole number of 1 or more, up to 10,000"),
        ("seeds=\u00b2", "seeds=\u00b2: expected a whole number of 1 or more, up to 10,000"),
        ("seeds=10001", "seeds=10001: expected a whole number of 1 or more, up to 10,000"),
        ("source=none", "source=none: a suite compares rows that train on a source; expected a data set"),
        ("seeds", "'seeds': expected name=value, as recipe.steps=500"),
    ],
)
def test_what_a_suite_does_not_take(given, words):
    with pytest.raises(InputError) as caught:
        load("table2", [given])
    assert str(caught.value) == words


def test_what_rows_do_not_take_is_said():
    given = ["method.num_actions=7", "shots=3", "seeds=2"]
    actions, shots = (
        not_taken(load("figure5", given), given),
        not_taken(load("figure3", given[1:]), given[1:]),
    )
    rows = "n = 6, n = 11, n = 21, n = 101"
    assert actions == [f"method.num_actions=7: not used by {rows}: the suite sets it there"]
    assert [line[:19] for line in shots] == ["shots=3: not used b"]
    with pytest.raises(
        InputError, match=r"method\.num_action=3: no row .*; did you mean 'method.num_actions'"
    ):
        not_taken(load("figure5", []), ["method.num_action=3"])


def test_an_unknown_suite_is_met_with_the_nearest():
    with pytest.raises(InputError, match="no suite 'tabel2'; did you mean 'table2'"):
        load("tabel2", [])


def test_a_plan_tells_the_analysis_of_every_cell(results):
    suite = table("table3", "targets=digits", "source=glyphs", "seeds=2", "protocol=holdout", "tune=off")
    planned = cells(suite)
    incompatible = {row_of(planned[1].configs[0]): "no such thing"}
    plan = json.loads(write_plan(suite, planned, incompatible, results).read_text())
    assert (plan["name"], plan["element"], plan["view"]) == ("table3-glyphs-digits", "Table 3", "scores")
    assert plan["command"] == (
        "transferbench suite table3 targets=digits source=glyphs seeds=2 protocol=holdout tune=off"
    )
    assert [c["reason"] for c in plan["cells"]] == ["", "no such thing", ""]
    last = plan["cells"][2]
    config = planned[2].configs[1]
    assert (last["row"], last["label"], last["method"]) == ("L2TL", "L2TL", "l2tl")
    assert (last["source"], last["target"], last["column"]) == ("glyphs", "digits", "digits")
    assert (last["at"], last["comparison_id"]) == (None, config.comparison_id)
    folder = f"glyphs-digits/l2tl/seed1-{config.digest}"
    assert last["runs"][1] == {"seed": 1, "digest": config.digest, "record": f"{folder}/record.json"}
    assert last["command"] == (
        "transferbench bench target=digits source=glyphs protocol=holdout tune=off methods=l2tl seeds=2"
    )


def test_a_stand_in_is_named_until_the_user_names_a_source(root):
    assert table("table3").stands_for == "jft-300m"
    assert table("table3", "source=glyphs").stands_for == ""


def test_pictures_are_of_the_classes_that_weigh_most_and_least(results):
    classes = catalog.load("glyphs").classes
    weights = {name: i / 100 for i, name in enumerate(classes)}
    path = write_class_images("glyphs", "digits", weights, results, "glyphs-digits")
    found = json.loads(path.read_text())
    assert path == results / "suites" / "pictures" / "glyphs-digits.json"
    assert set(found["classes"]) == {*classes[-NUM_CLASSES:], *classes[:NUM_CLASSES]}
    assert {len(images) for images in found["classes"].values()} == {PER_CLASS}
    picture = Image.open(io.BytesIO(base64.b64decode(found["classes"]["0"][0])))
    part = catalog.load("glyphs").part("train")
    first = part.images.decode(int(np.flatnonzero(part.labels == classes.index("0"))[0]), picture.width)[0]
    assert np.array_equal(np.asarray(picture), first)


def test_pictures_of_few_classes_show_each_once(results):
    weights = dict.fromkeys(catalog.load("glyphs").classes[:5], 1.0)
    found = json.loads(write_class_images("glyphs", "digits", weights, results, "glyphs-digits").read_text())
    assert len(found["classes"]) == 5
