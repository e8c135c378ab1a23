"""The main job's figure: a few points a setting, whatever the run has of worlds, ranks and methods."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer
from pictures import Measured, check

from sim.lab.figure import Source, committed
from sim.merge.looks import look_of
from sim.sweep import report

SUMMARY = Source(committed() / "experiments").summary("familiarity")


def of_ranks(*ranks):
    """The committed run as if it had been made at these ranks, without what only predicts."""
    return pd.concat(
        SUMMARY.assign(rank=rank, label=f"two_hop/rank{rank}/" + SUMMARY["label"]) for rank in ranks
    )


@pytest.mark.parametrize("ranks", [(4,), (2, 4)])
def test_nothing_lies_over_anything(ranks):
    picture = Measured(report.picture(of_ranks(*ranks)))
    assert check(picture) == []
    titles = [axes.get_title(loc="left") for axes in picture.panels]
    assert [title[:3] for title in titles] == [f"({letter})" for letter in "abcdef"[: 3 * len(ranks)]]
    assert all((f"rank {ranks[-1]}" in title) == (len(ranks) > 1) for title in titles[-3:])


def test_a_panel_has_a_row_a_setting_and_a_marker_a_method():
    drawn = report.picture(of_ranks(4))
    _, written, direct = drawn.axes
    names = [label.get_text() for label in written.get_yticklabels()]
    assert (set(names) == set(SUMMARY["label"]) and names[0] == "data/none") or "real/both" in names
    bars = [bar for bar in written.containers if isinstance(bar, ErrorbarContainer)]
    rows = SUMMARY[(SUMMARY["metric"] == "cot_answer") & SUMMARY["library"].isin(("parts", "single"))]
    assert len(bars) == len(set(report.DRAWN) & set(rows["method"])) <= 7
    for bar in bars:
        assert len(bar.lines[0].get_xdata()) == len(names)
    joint = next(bar for bar in bars if bar.lines[0].get_label() == "joint adapter")
    expected = rows[rows["method"] == "joint"].drop_duplicates("label").set_index("label")["measured"]
    np.testing.assert_allclose(joint.lines[0].get_xdata().astype(float), expected.reindex(names))
    assert joint.lines[0].get_color() == look_of("joint").colour
    assert [label.get_text() for label in direct.get_yticklabels()] == [""] * len(names)


def test_the_guess_is_that_among_the_edited_answers():
    """The mean over settings of the most that one hop allows, which the run writes beside its answers."""
    drawn, rows = report.picture(of_ranks(4)), SUMMARY[SUMMARY["metric"] == "direct_given_among_answers"]
    bound = rows.loc[rows["predictor"] == "bound", "predicted"].mean()
    assert 1 / 16 < bound < 0.0711  # the highest bound of a single question (theory, 2g)
    for axes in drawn.axes[1:]:
        (guess,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert guess.get_xdata()[0] == pytest.approx(bound, abs=1e-4)
