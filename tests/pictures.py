"""What can be measured of a picture: where its texts, markers, bars and legends are."""

import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.transforms import Bbox


class Measured:
    """A picture after its layout, in points of the screen."""

    def __init__(self, picture):
        self.picture, self.canvas = picture, FigureCanvasAgg(picture)
        picture.draw_without_rendering()
        self.renderer = self.canvas.get_renderer()
        self.panels = [axes for axes in picture.axes if axes.get_label() != "<colorbar>"]

    def box(self, artist) -> Bbox:
        return artist.get_window_extent(self.renderer)

    def legends(self):
        inside = [axes.get_legend() for axes in self.panels if axes.get_legend()]
        return [*self.picture.legends, *inside]

    def texts(self):
        """Every text that is seen."""
        texts = [text for axes in self.picture.axes for text in self.of_axes(axes)]
        for legend in self.legends():
            texts += [*legend.get_texts(), legend.get_title()]
        return [text for text in texts if text.get_visible() and text.get_text().strip()]

    def of_axes(self, axes):
        ticks = [label for name in ("x", "y") for label in self.ticks(axes, name)]
        titles = [axes.title, axes._left_title, axes._right_title, axes.xaxis.label, axes.yaxis.label]
        return [*ticks, *titles, *axes.texts]

    def ticks(self, axes, name):
        """Tick labels of an axis that stand within its limits."""
        axis = getattr(axes, f"{name}axis")
        low, high = sorted(axis.get_view_interval())
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        room = 1e-9 * max(abs(low), abs(high))
        return [
            tick.label1
            for tick in ticks
            if low - room <= tick.get_loc() <= high + room and tick.label1.get_visible()
            and tick.label1.get_text().strip()
        ]  # fmt: skip

    def marks(self, axes):
        """Boxes of the markers, and the ends of the error bars, of a panel."""
        boxes = []
        for line in axes.lines:
            if line.get_marker() not in ("", "None", None, "|", "_", 1, 2, 3, 0) and line.get_label() != "":
                half = line.get_markersize() / 2 * self.picture.dpi / 72
                at = axes.transData.transform(np.column_stack(line.get_data()).astype(float))
                boxes += [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in at]
        for bars in axes.collections:
            if isinstance(bars, LineCollection):
                for segment in bars.get_segments():
                    ends = axes.transData.transform(segment)
                    boxes.append(Bbox.from_extents(*ends.min(0) - 0.5, *ends.max(0) + 0.5))
        return [box for box in boxes if np.isfinite(box.extents).all()]


def crossing(boxes, others=None, slack=0.5):
    """Pairs (i, j) of boxes that overlap by more than ``slack`` points in both directions."""
    pairs = (
        itertools.combinations(range(len(boxes)), 2)
        if others is None
        else itertools.product(range(len(boxes)), range(len(others)))
    )
    others = boxes if others is None else others
    crossings = []
    for i, j in pairs:
        a, b = boxes[i], others[j]
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > slack and high > slack:
            crossings.append((i, j))
    return crossings


def check(layout):
    """What a reader would stumble over, in words."""
    texts = layout.texts()
    boxes = [layout.box(text) for text in texts]
    words = [text.get_text() for text in texts]
    wrong = [f"{words[i]!r} over {words[j]!r}" for i, j in crossing(boxes)]
    frame = layout.picture.bbox
    wrong += [
        f"{word!r} is cut"
        for word, box in zip(words, boxes, strict=True)
        if box.x0 < -1 or box.y0 < -1 or box.x1 > frame.x1 + 1 or box.y1 > frame.y1 + 1
    ]
    for axes in layout.panels:
        marks, notes = layout.marks(axes), [text for text in axes.texts if text.get_text()]
        hits = crossing([layout.box(note) for note in notes], marks)
        wrong += [f"{notes[i].get_text()!r} over a point" for i in sorted({i for i, _ in hits})]
        for legend in layout.legends():
            if crossing([layout.box(legend)], [*marks, *([] if legend.axes is axes else [axes.bbox])]):
                wrong.append("a legend over data")
    return wrong
