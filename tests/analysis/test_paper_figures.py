"""The paper's figures on small tables: what is drawn, where it stands, and what is said of it."""

import itertools
import math
import re
from functools import cache

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.text import Annotation, Text
from transferbench.analysis.figures import accuracy, cost, curves, differences, shots, style
from transferbench.analysis.figures.inline_svg import inline_svg
from transferbench.analysis.statistics.paired import mean_interval
from transferbench.analysis.statistics.pareto import pareto_front

NAN = math.nan
TARGETS = ["birds", "pets", "cars", "aircraft", "food"]
MANY = ["Fine-tuning", "Selective joint fine-tuning", "L2TL (reward_batch=64, lr_policy=0.01)"]
MANY += [f"method {i}" for i in range(27)]
LOOK = style.styles([*MANY, "A", "B", "L2TL", "DATL"])


def differences_of(labels=MANY[1:], targets=TARGETS):
    random = np.random.default_rng(0)
    rows = []
    for target, label in itertools.product(targets, labels):
        points = random.normal(0, 1)
        rows.append((target, label, points, points - 1, points + 1, abs(points) > 1))
    return pd.DataFrame(rows, columns=["target", "label", "points", "low", "high", "significant"])


def shots_of(labels=("Fine-tuning", "L2TL"), targets=("birds", "pets"), shots=("all", 10, 1, 5)):
    rows = [
        (target, label, at, seed, 0.5 + 0.01 * seed + 0.02 * (label == "L2TL"))
        for target, label, at, seed in itertools.product(targets, labels, shots, range(3))
    ]
    return pd.DataFrame(rows, columns=["target", "label", "at", "seed", "score"])


def gaps_of(targets=("birds", "pets"), shots=("all", 10, 1, 5)):
    rows = [(t, "L2TL", at, 2.0 + place, 1.0, 4.0) for t in targets for place, at in enumerate(shots)]
    return pd.DataFrame(rows, columns=["target", "label", "at", "points", "low", "high"])


def curves_of(labels=("Fine-tuning", "L2TL"), targets=("birds", "pets"), steps=(10, 20, 30, 40)):
    rows = [
        (target, label, seed, step, step / 100 + seed / 50 + 0.1 * (label == "L2TL"))
        for target, label, seed, step in itertools.product(targets, labels, range(3), steps)
    ]
    return pd.DataFrame(rows, columns=["target", "label", "seed", "step", "score"])


def costs_of(scores, seconds, own=0.0, device="NVIDIA H200", num_seeds=3):
    rows = [
        (label, seed, score + 0.001 * (seed - (num_seeds - 1) / 2), seconds[label], own, device)
        for label, score in scores.items()
        for seed in range(num_seeds)
    ]
    names = ["label", "seed", "score", "train_seconds", "pretraining_own_seconds", "device"]
    return pd.DataFrame(rows, columns=names)


def many_costs(seed=1, longest=10):
    random = np.random.default_rng(seed)
    seconds = {label: float(np.exp(random.uniform(7, longest))) for label in MANY}
    return costs_of({label: 0.77 + random.normal(0, 0.008) for label in MANY}, seconds)


FIGURES = {
    "differences": lambda: differences.difference_figure(differences_of(MANY[1:9], TARGETS[:2]), LOOK),
    "differences beside": lambda: differences.difference_figure(differences_of(), LOOK, 5),
    "shots": lambda: shots.shots_figure(shots_of(), gaps_of(), LOOK, "Accuracy"),
    "shots beside": lambda: shots.shots_figure(shots_of(), gaps_of(), LOOK, "Accuracy", 2),
    "curves": lambda: curves.curves_figure(curves_of(MANY[:8]), LOOK, "Accuracy"),
    "curves beside": lambda: curves.curves_figure(curves_of(MANY[:8]), LOOK, "Accuracy", 2),
    "cost": lambda: cost.cost_figure(many_costs(), LOOK, "Accuracy"),
    "accuracy": lambda: accuracy.accuracy_figure(many_costs(), LOOK, "Accuracy"),
    "one curve": lambda: curves.curve_figure(curves_of(MANY[:8], ["birds"]), LOOK, "Accuracy"),
}


@cache
def drawn(kind):
    return FIGURES[kind]()


def texts_of(figure):
    found = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    hidden = {id(label) for axes in figure.axes for label in _outside(axes)}
    return [text for text in found if id(text) not in hidden]


def _outside(axes):
    """Labels of ticks that lie outside of the axes are not drawn."""
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, sorted(axes.get_ylim()))):
        for tick in axis.get_major_ticks():
            if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                yield tick.label1


def box_of(text):
    text.get_window_extent()
    return Text.get_window_extent(text)


@pytest.mark.parametrize("kind", FIGURES)
def test_every_word_is_whole_and_on_no_other_word(kind):
    figure = drawn(kind)
    boxes = [(text.get_text(), box_of(text)) for text in texts_of(figure)]
    for text, box in boxes:
        assert figure.bbox.x0 - 1 <= box.x0 <= box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0 <= box.y1 <= figure.bbox.y1 + 1, text
    for (text, box), (other, second) in itertools.combinations(boxes, 2):
        both = box.intersection(box, second)
        assert both is None or min(both.width, both.height) < 2, (text, other)


@pytest.mark.parametrize("kind", FIGURES)
def test_figures_use_the_colors_of_the_page_and_leave_nothing_behind(kind):
    before = dict(matplotlib.rcParams)
    written = inline_svg(drawn(kind))
    assert dict(matplotlib.rcParams) == before
    assert not pyplot.get_fignums()
    known = {look.color for look in LOOK.values()}
    assert set(re.findall(r"#[0-9a-f]{6}\b", written)) <= known
    assert "currentColor" in written
    assert "<text" in written


def test_equal_tables_give_equal_figures():
    for kind in ("shots", "one curve"):
        assert inline_svg(drawn(kind)) == inline_svg(FIGURES[kind]())


@pytest.mark.parametrize("kind", FIGURES)
def test_letters_are_legible_on_a_page_of_360_pixels(kind):
    figure = drawn(kind)
    if "beside" not in kind:
        pixels = 300 / (72 * figure.get_figwidth())  # of a point
        assert min(text.get_fontsize() for text in texts_of(figure)) * pixels > 8


def test_forty_labels_look_different_and_neighbours_differ_in_all():
    looks = list(style.styles(f"method {i:02}" for i in range(40)).values())
    assert len({(look.color, look.marker) for look in looks}) == 40
    for one, other in itertools.pairwise(looks):
        assert one.color != other.color
        assert one.marker != other.marker
        assert one.dash != other.dash


def test_shots_stand_at_equal_distances_and_all_images_at_the_end():
    figure = shots.shots_figure(shots_of(), gaps_of(), LOOK, "Accuracy")
    assert len(figure.axes) == 4  # scores and differences of two targets
    scores, gaps = figure.axes[:2]
    assert [tick.get_text() for tick in gaps.get_xticklabels()] == ["1", "5", "10", "all"]
    assert list(gaps.get_xticks()) == [0, 1, 2, 3]
    groups = [group.get_offsets() for group in scores.collections]
    points = np.concatenate([group for group in groups if len(group) > 4])
    assert len(points) == 2 * 4 * 3  # labels, numbers of images, seeds
    assert np.allclose(np.unique(points[:, 1].round(6)), [50, 51, 52, 53, 54])
    bars = [bar.get_segments() for bar in scores.collections if hasattr(bar, "get_segments")]
    _, low, high = mean_interval([50, 51, 52])
    assert np.allclose(np.array(bars[0])[:, :, 1], [low, high])


def test_shots_show_the_difference_at_its_number_of_images():
    figure = shots.shots_figure(shots_of(), gaps_of(), LOOK, "Accuracy")
    (line,) = [item for item in figure.axes[1].lines if item.get_marker() == LOOK["L2TL"].marker]
    assert list(line.get_ydata()) == [4.0, 5.0, 3.0, 2.0]  # 1, 5, 10, all
    (bars,) = [bar.get_segments() for bar in figure.axes[1].collections if hasattr(bar, "get_segments")]
    assert np.allclose(np.array(bars)[:, :, 1], [1.0, 4.0])


def test_shots_without_differences_are_scores_alone():
    figure = shots.shots_figure(shots_of(), gaps_of().head(0), LOOK, "Accuracy", 2)
    assert len(figure.axes) == 2
    text = shots.shots_alternative(shots_of(), gaps_of().head(0), "Accuracy")
    assert text == "Accuracy on the test part against 1 to all images per class, 2 methods on 2 targets."


def test_shots_in_words_name_the_largest_difference_of_either_sign():
    gaps = gaps_of()
    gaps.loc[3, ["points", "low", "high"]] = [-6.5, -8.0, 0.5]
    text = shots.shots_alternative(shots_of(), gaps, "Accuracy")
    assert text.endswith(
        "Largest difference from fine-tuning: L2TL on birds at 5 per class, \N{MINUS SIGN}6.5"
        " (\N{MINUS SIGN}8.0 to +0.5) points; 7 of 8 intervals exclude zero (not corrected)."
    )


def test_curves_are_means_at_each_step_and_thin_lines_of_the_seeds():
    curve = curves_of(targets=["birds"])
    means = curves.curve_means(curve)
    for row in means.to_dict("records"):
        own = curve[(curve["label"] == row["label"]) & (curve["step"] == row["step"])]
        assert row["score"] == pytest.approx(100 * own["score"].mean())
    assert len(means) == 2 * 4
    (axes,) = curves.curves_figure(curve, LOOK, "Accuracy").axes
    thick = [line for line in axes.lines if line.get_linewidth() > 1]
    assert np.allclose(thick[1].get_xydata(), [[10, 22], [20, 32], [30, 42], [40, 52]])
    assert len(axes.lines) - len(thick) == curve.groupby(["label", "seed"]).ngroups
    low, high = axes.get_ylim()
    late = 100 * curve.loc[curve["step"] == curve["step"].max(), "score"]
    assert late.between(low, high).all()


def test_a_step_that_one_seed_did_not_reach_is_left_out_of_the_mean():
    curve = curves_of(["A"], ["birds"])
    cut = curve[~((curve["seed"] == 2) & (curve["step"] > 20))]
    assert list(curves.curve_means(cut)["step"]) == [10, 20]
    alone = curves.curve_means(curve[curve["seed"] == 0])
    assert list(alone["step"]) == [10, 20, 30, 40]


def test_curves_do_not_spend_the_axis_on_the_first_steps():
    rows = [("birds", "A", 0, step, 0.9 if step > 20 else 0.1) for step in range(10, 101, 10)]
    curve = pd.DataFrame(rows, columns=["target", "label", "seed", "step", "score"])
    low, high = curves.curves_figure(curve, LOOK, "Accuracy").axes[0].get_ylim()
    assert 85 < low < 90 < high < 95


def test_curves_in_words_name_the_two_highest_at_the_end():
    text = curves.curves_alternative(curves_of(["A", "B", "L2TL"]), "AUROC")
    assert text == (
        "AUROC on the holdout part during training, 3 methods on 2 targets. Highest means at the last step,"
        " in percent: birds: L2TL 52.0, then A 42.0; pets: L2TL 52.0, then A 42.0."
    )


FRONTS = {
    "one point": ([(10, 70)], [0]),
    "dearer and worse is beaten": ([(10, 70), (20, 60), (30, 80)], [0, 2]),
    "the cheapest of equal scores": ([(20, 70), (10, 70)], [1]),
    "the best of equal seconds": ([(10, 70), (10, 80)], [1]),
    "equal points are both on it": ([(10, 70), (10, 70), (5, 60)], [2, 0, 1]),
    "a chain, cheapest first": ([(30, 90), (10, 70), (20, 80)], [1, 2, 0]),
    "one point beats all": ([(5, 95), (10, 70), (20, 80)], [0]),
    "what is not known is not on it": ([(NAN, 99), (10, 70), (5, NAN)], [1]),
}


@pytest.mark.parametrize("case", FRONTS)
def test_pareto_front(case):
    points, front = FRONTS[case]
    found = pareto_front(pd.DataFrame(points, columns=["seconds", "score"]))
    assert list(found.index) == front


def test_pareto_front_is_what_no_other_point_beats():
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.integers(0, 12, (60, 2)), columns=["seconds", "score"])
    points = frame.to_numpy().tolist()
    kept = {
        i
        for i, (seconds, score) in enumerate(points)
        if not any(s <= seconds and c >= score and (s, c) != (seconds, score) for s, c in points)
    }
    assert set(pareto_front(frame).index) == kept


def test_costs_count_the_pre_training_of_the_method_itself():
    runs = costs_of({"A": 0.7, "B": 0.8}, {"A": 100.0, "B": 50.0})
    runs.loc[runs["label"] == "B", "pretraining_own_seconds"] = [100.0, 150.0, 200.0]
    means = cost.cost_means(runs).set_index("label")
    assert list(means.index) == ["A", "B"]
    assert means.loc["B", ["seconds", "seconds_low", "seconds_high"]].tolist() == [200.0, 150.0, 250.0]
    assert means["score"].tolist() == pytest.approx([70, 80])
    assert means["on_front"].all()


def test_cost_names_the_front_and_fine_tuning_alone():
    runs = costs_of(
        {"Fine-tuning": 0.77, "A": 0.775, "B": 0.76, "L2TL": 0.78},
        {"Fine-tuning": 50.0, "A": 40.0, "B": 60.0, "L2TL": 150.0},
    )
    (axes,) = cost.cost_figure(runs, LOOK, "Accuracy").axes
    assert {text.get_text() for text in axes.texts} == {"A", "Fine-tuning", "L2TL"}
    assert axes.get_xlabel() == "GPU-seconds of training and own pre-training"
    (front,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert np.allclose(front.get_xydata(), [[40, 77.5], [150, 78]])
    on_cpu = cost.cost_figure(runs.assign(device="cpu (x86_64)"), LOOK, "Accuracy")
    assert on_cpu.axes[0].get_xlabel().startswith("CPU-seconds")


def test_cost_of_thirty_methods_hides_no_name():
    (axes,) = drawn("cost").axes
    names = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(names) >= 2
    inside = axes.get_window_extent()
    for name in names:
        box = box_of(name)
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_in_a_crowd_a_name_stays_at_its_point(seed):
    (axes,) = cost.cost_figure(many_costs(seed, 8), LOOK, "Accuracy").axes
    for name in axes.texts:
        assert box_of(name).padded(14).contains(*axes.transData.transform(name.xy))


def test_the_name_of_a_point_alone_stands_beside_it_without_a_line():
    (name,) = cost.cost_figure(costs_of({"A": 0.7}, {"A": 9.0}), LOOK, "Accuracy").axes[0].texts
    assert not name.arrow_patch.get_visible()
    point = name.axes.transData.transform(name.xy)
    assert box_of(name).padded(8).contains(*point)


def test_a_score_far_below_is_an_arrow_with_its_number():
    scores = {f"method {i}": 0.77 + 0.001 * i for i in range(8)} | {"A": 0.31}
    runs = costs_of(scores, dict.fromkeys(scores, 50.0))
    axes = cost.cost_figure(runs, LOOK, "Accuracy").axes[0]
    assert axes.get_ylim()[0] > 70
    assert "31.0" in [text.get_text() for text in axes.texts]
    axes = accuracy.accuracy_figure(runs, LOOK, "Accuracy").axes[0]
    assert axes.get_xlim()[0] > 70
    assert [text.get_text() for text in axes.texts] == ["31.0 (30.8 to 31.2)"]
    (arrow,) = [line for line in axes.lines if line.get_marker() == "<"]
    assert arrow.get_xydata().tolist() == [[axes.get_xlim()[0], 8]]


def test_the_line_of_fine_tuning_does_not_stretch_the_axis_to_a_score_far_below():
    others = {f"method {i}": 0.77 + 0.001 * i for i in range(8)}
    for score, is_drawn in ((0.31, False), (0.765, True)):
        scores = others | {"Fine-tuning": score}
        runs = costs_of(scores, dict.fromkeys(scores, 50.0))
        axes = accuracy.accuracy_figure(runs, style.styles(scores), "Accuracy").axes[0]
        assert axes.get_xlim()[0] > 70
        drawn = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        assert drawn == ([pytest.approx(76.5, abs=0.2)] if is_drawn else [])


def test_an_axis_of_seconds_has_two_ticks_at_least():
    for seconds in ({"A": 97.0}, {"A": 97.0, "B": 99.0}, {"A": 0.5, "B": 90000.0}):
        runs = costs_of(dict.fromkeys(seconds, 0.7), seconds)
        axes = cost.cost_figure(runs, LOOK, "Accuracy").axes[0]
        low, high = axes.get_xlim()
        assert sum(low <= tick <= high for tick in axes.get_xticks()) >= 2


def test_a_dollar_in_a_name_is_a_dollar():
    label = "A ($1 and $2)"
    look = style.styles([label])
    figure = differences.difference_figure(differences_of([label], ["$x$ and $y$"]), look)
    written = inline_svg(figure)
    assert ">A ($1 and $2)</text>" in written
    assert ">$x$ and $y$</text>" in written
