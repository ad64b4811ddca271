"""The plot of the ratios as an SVG, in plain Python: one bar for each ratio that has a goal.

A bar is as long as its ratio is times its goal, so that one line is the goal of all; where the goal is a most, it is
turned round. So longer is better everywhere. A thin line shows the spread over the rounds. The picture has a ground of
its own, light or dark as the reader prefers, so that it can be read on any page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from scripts.benchmarks.figures import Ratio

WIDTH = 820
LEFT = 330
RIGHT = 130
TOP = 64
ROW = 34
BAR = 16
BOTTOM = 44
#: What is further than this from its goal is cut off; its number says how far it is.
MOST = 3.0

STYLE = """
    .ground { fill: #ffffff; stroke: #d0d7de; }
    text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
    .title { font-size: 15px; font-weight: 600; }
    .quiet { fill: #59636e; font-size: 12px; }
    .reached { fill: #1a7f37; }
    .short { fill: #bc4c00; }
    .goal { stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 4 3; }
    .spread { stroke: #1f2328; stroke-width: 1.5; opacity: 0.75; }
    .grid { stroke: #d0d7de; }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #0d1117; stroke: #3d444d; }
      text { fill: #f0f6fc; }
      .quiet { fill: #9198a1; }
      .reached { fill: #3fb950; }
      .short { fill: #db6d28; }
      .goal, .spread { stroke: #f0f6fc; }
      .grid { stroke: #3d444d; }
    }
"""


def plot(ratios: Mapping[str, Ratio]) -> str:
    """The picture, as text."""
    shown = {name: ratio for name, ratio in ratios.items() if ratio.goal}
    height = TOP + ROW * len(shown) + BOTTOM
    said = f"Each ratio beside its goal; {sum(bool(ratio.reached) for ratio in shown.values())} of {len(shown)} reached"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            ' role="img" aria-labelledby="title">',
            f'  <title id="title">{escape(said)}</title>',
            f"  <style>{STYLE}  </style>",
            f'  <rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
            '  <text class="title" x="20" y="28">Ratios, as multiples of their goals</text>',
            '  <text class="quiet" x="20" y="46">longer is better; the thin line is the spread over the rounds</text>',
            *_scale(height),
            *(line for row, (name, ratio) in enumerate(shown.items()) for line in _bar(row, name, ratio)),
            f'  <line class="goal" x1="{_x(1)}" x2="{_x(1)}" y1="{TOP - 4}" y2="{height - BOTTOM + 4}"/>',
            "</svg>",
            "",
        )
    )


def _x(share: float) -> float:
    return round(LEFT + min(share, MOST) / MOST * (WIDTH - LEFT - RIGHT), 1)


def _scale(height: int) -> Iterator[str]:
    """The lines and numbers of the scale."""
    for share in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        x, bottom = _x(share), height - BOTTOM + 4
        yield f'  <line class="grid" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{bottom}"/>'
        label = "goal" if share == 1 else f"{share:g}"
        yield f'  <text class="quiet" x="{x}" y="{bottom + 18}" text-anchor="middle">{label}</text>'


def _bar(row: int, name: str, ratio: Ratio) -> Iterator[str]:
    """The name, the bar, its spread, and the figure beside its goal."""
    top = TOP + row * ROW + (ROW - BAR) / 2
    middle = top + BAR / 2
    share, ends = _share(ratio, ratio.value), sorted(_share(ratio, value) for value in ratio.rounds)
    kind = "reached" if ratio.reached else "short"
    label = escape(name.replace("_", " "))
    figure = f"{'→ ' if share > MOST else ''}{ratio.value:.3g}  ({ratio.wanted})"
    yield f'  <text x="{LEFT - 12}" y="{middle + 4.5}" text-anchor="end">{label}</text>'
    yield f'  <rect class="{kind}" x="{LEFT}" y="{top}" width="{_x(share) - LEFT:.1f}" height="{BAR}" rx="2"/>'
    yield f'  <line class="spread" x1="{_x(ends[0])}" x2="{_x(ends[-1])}" y1="{middle}" y2="{middle}"/>'
    yield f'  <text x="{WIDTH - RIGHT + 14}" y="{middle + 4.5}">{escape(figure)}</text>'


def _share(ratio: Ratio, value: float) -> float:
    """How many times its goal a ratio is; for a goal that is a most, how many times the ratio the goal is."""
    assert ratio.goal is not None, "only ratios with a goal are drawn"
    if not ratio.at_most:
        return value / ratio.goal
    return ratio.goal / value if value > 0 else MOST
