"""Draw the front of a study as an SVG: accuracy over the share of MACs, every trial and the front.

    python studies/plot_front.py studies/cifar10-resnet20.toml studies/cifar10-resnet20.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

from autoprune.config import load_study
from autoprune.searching.front import Front, Point
from autoprune.searching.study import read_front

WIDTH, HEIGHT, MARGIN = 640, 400, 56


def place(ratio: float, accuracy: float, low: float) -> tuple[float, float]:
    """Pixel position of a point; accuracies run from `low` to 1."""
    x = MARGIN + ratio * (WIDTH - 2 * MARGIN)
    y = HEIGHT - MARGIN - (accuracy - low) / (1 - low) * (HEIGHT - 2 * MARGIN)
    return round(x, 1), round(y, 1)


def draw(front: Front) -> str:
    low = min(point.accuracy for point in front.points) // 0.1 * 0.1
    parts = [*axes(low), *dots(front.trials, low, "#9ab", 2.5)]
    line = " ".join(f"{x},{y}" for x, y in (place(p.macs_ratio, p.accuracy, low) for p in front))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#1668b5" stroke-width="2"/>')
    parts += dots(front.points, low, "#1668b5", 4)
    x, y = place(1.0, front.dense.accuracy, low)
    parts.append(f'<circle cx="{x}" cy="{y}" r="6" fill="#c33"/>')
    label = f"dense {front.dense.accuracy:.1%}"
    parts.append(f'<text x="{x - 10}" y="{y - 12}" text-anchor="end" fill="#c33">{label}</text>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13"'
    title = f"<title>{front.study}: validation accuracy over the share of MACs left</title>"
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{title}{background}{"".join(parts)}</svg>\n'


def dots(points: object, low: float, colour: str, radius: float) -> list[str]:
    assert isinstance(points, list)
    chosen: list[Point] = [point for point in points if point.accuracy >= low]
    spots = [place(point.macs_ratio, point.accuracy, low) for point in chosen]
    return [f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{colour}"/>' for x, y in spots]


def axes(low: float) -> list[str]:
    parts = []
    for tenth in range(0, 11, 2):
        x, y = place(tenth / 10, low, low)
        parts.append(f'<text x="{x}" y="{y + 20}" text-anchor="middle">{tenth * 10} %</text>')
    steps = round((1 - low) * 10)
    for step in range(steps + 1):
        accuracy = low + step / 10
        (x, y), (end, _) = place(0, accuracy, low), place(1, accuracy, low)
        parts.append(f'<line x1="{x}" y1="{y}" x2="{end}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 8}" y="{y + 4}" text-anchor="end">{accuracy:.0%}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">MACs left</text>')
    return parts


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    config = load_study(sys.argv[1])
    Path(sys.argv[2]).write_text(draw(read_front(config.storage, config.name)))


if __name__ == "__main__":
    main()
