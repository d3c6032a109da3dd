"""The anatomy of a phantom chest X-ray: ellipses, ribs and lines of known extent, painted as what they absorb."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

GRID = 256  # pixels a side that anatomy is painted at; it is smooth, so enlarging it loses nothing
# In units of the image's side, before a patient's own variation: x to the right of the image (the patient's
# left), y down, ellipses as (x, y, half axis, half axis, degrees).
_LUNGS = {-1: (-0.19, -0.03, 0.145, 0.32, 6), 1: (0.19, -0.03, 0.145, 0.32, -6)}
_DOMES = {-1: (-0.19, 0.36, 0.21, 0.21, 0), 1: (0.19, 0.385, 0.21, 0.21, 0)}
_HEART = ((0.062, 0.125, 0.155, 0.105, 38), (-0.015, 0.10, 0.085, 0.12, 0))
_AORTA = (0.045, -0.115, 0.048, 0.05, 0)
_OUTLINE = np.linspace(0, 2 * np.pi, 1440, endpoint=False)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in units of the image's side, its centre from the left upper corner, ``turn`` in radians."""

    x: float
    y: float
    a: float
    b: float
    turn: float

    def level(self, points: np.ndarray) -> np.ndarray:
        """Return about the distance to the outline in units, negative inside; ``points``: (2, …) as x, y."""
        c, s = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        x, y = points[0] - np.float32(self.x), points[1] - np.float32(self.y)
        u, v = (c * x + s * y) / np.float32(self.a), (c * y - s * x) / np.float32(self.b)
        return (np.sqrt(u * u + v * v) - 1) * np.float32(min(self.a, self.b))

    def outline(self) -> np.ndarray:
        """Return 1440 points on the outline, (2, 1440) as x, y."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        u, v = self.a * np.cos(_OUTLINE), self.b * np.sin(_OUTLINE)
        return np.stack([self.x + c * u - s * v, self.y + s * u + c * v])


@dataclass(frozen=True)
class Chest:
    """One patient's anatomy in one position; all lengths in units of the image's side."""

    lungs: dict[int, Ellipse]
    domes: dict[int, Ellipse]
    heart: tuple[Ellipse, ...]
    aorta: Ellipse
    middle: float
    top: float
    scale: float
    opacities: list[tuple[int, Ellipse]] = field(default_factory=list)

    @property
    def heart_box(self) -> np.ndarray:
        """The heart's (4,) xyxy, from its outline: also where the diaphragm hides it."""
        return _extent(np.concatenate([part.outline() for part in self.heart], axis=1))

    @property
    def thorax(self) -> np.ndarray:
        """The thorax's inner range along x, (2,): the outermost points of the lungs above the diaphragm."""
        return _extent(np.concatenate([self._air(side, self.lungs[side].outline()) for side in (-1, 1)], 1))[
            [0, 2]
        ]

    @property
    def boxes(self) -> np.ndarray:
        """The opacities' (N, 4) xyxy, each cut to its lung."""
        boxes = [
            _extent(self._air(side, _inside(self.lungs[side], e.outline()))) for side, e in self.opacities
        ]
        return np.stack(boxes) if boxes else np.zeros((0, 4))

    def _air(self, side: int, points: np.ndarray) -> np.ndarray:
        return points[:, self.domes[side].level(points) > 0]


def draw_chest(rng: np.random.Generator, ap: bool) -> Chest:
    """Draw a patient; in AP the heart is magnified and the lungs are shorter, as in a patient who lies or sits."""
    scale, turn = rng.uniform(0.92, 1.08), rng.normal(0, 1.5)
    middle, top = 0.5 + rng.normal(0, 0.015), 0.48 + rng.normal(0, 0.02)
    wide, tall = rng.uniform(0.94, 1.1), rng.uniform(0.9, 1.08) * (0.9 if ap else 1)
    size = rng.normal(1, 0.09) * (1.13 if ap else 1)

    def place(part: Any, across: float = 1.0, along: float = 1.0, size: float = 1.0) -> Ellipse:
        x, y, a, b, degrees = part
        radians, c, s = np.radians(degrees + turn), np.cos(np.radians(turn)), np.sin(np.radians(turn))
        x, y = scale * x * across, scale * y * along
        a, b = a * across * size * scale, b * along * size * scale
        return Ellipse(middle + c * x - s * y, top + s * x + c * y, a, b, radians)

    lift = rng.normal(0, 0.012, 2)
    domes = {
        side: place((x, y + lift[int(side > 0)] / tall, a, b / tall, 0), wide, tall)
        for side, (x, y, a, b, _) in _DOMES.items()
    }
    shift, lean = rng.normal(0, 0.01), rng.normal(0, 6)
    heart = tuple(
        place((x + shift, y * tall, a, b, d + lean * (d > 0)), size=size) for x, y, a, b, d in _HEART
    )
    lungs = {side: place(part, wide, tall) for side, part in _LUNGS.items()}
    return Chest(lungs, domes, heart, place(_AORTA, size=size), middle, top, scale)


def add_opacities(rng: np.random.Generator, chest: Chest) -> None:
    """Add one or two patches of pneumonia, rather low in the lungs."""
    for side in rng.permutation([-1, 1])[: rng.integers(1, 3)].tolist():
        lung = chest.lungs[side]
        x = lung.x + lung.a * rng.uniform(-0.4, 0.4)
        y = lung.y + lung.b * rng.uniform(-0.45, 0.45)
        a, b = lung.a * rng.uniform(0.4, 0.75), lung.b * rng.uniform(0.22, 0.45)
        chest.opacities.append((side, Ellipse(x, y, a, b, rng.uniform(-0.5, 0.5))))


def paint(rng: np.random.Generator, chest: Chest, ap: bool, grid: int = GRID) -> np.ndarray:
    """Return what ``chest`` absorbs, (grid, grid) float32, rows down: air 0, lungs about 0.4, the heart about 1."""
    axis = (np.arange(grid, dtype=np.float32) + np.float32(0.5)) / np.float32(grid)
    points = np.stack(np.meshgrid(axis, axis))
    lungs = [np.maximum(chest.lungs[s].level(points), -chest.domes[s].level(points)) for s in (-1, 1)]
    lungs = np.minimum(*lungs)
    air = _soft(lungs, 0.006)
    values = _body(rng, chest, points)
    values -= rng.uniform(0.38, 0.5) * air * (1 + 0.12 * _waves(rng, points, 0.25, 3))
    values += _vessels(rng, chest, grid) * air
    values += _ribs(rng, chest, points) * (0.25 + 0.75 * _soft(lungs, 0.05))
    heart = np.minimum(*(part.level(points) for part in chest.heart))
    values += rng.uniform(0.26, 0.36) * _soft(heart, 0.008) * (0.25 + 0.75 * air)
    values += 0.25 * _soft(chest.aorta.level(points), 0.008) * air
    for side, opacity in chest.opacities:
        texture = 0.85 + 0.15 * _waves(rng, points, 0.03, 4)
        level = np.maximum(opacity.level(points), chest.lungs[side].level(points))
        values += rng.uniform(0.14, 0.3) * _soft(level, 0.05) * air * texture
    values += 0.04 * _waves(rng, points, 0.3, 3)
    return values + _objects(rng, chest, ap, grid)


def _body(rng: np.random.Generator, chest: Chest, points: np.ndarray) -> np.ndarray:
    """Return soft tissue: trunk, shoulders, neck, the spine and the mediastinum between the lungs."""
    x, y = (
        (points[0] - np.float32(chest.middle)) / chest.scale,
        (points[1] - np.float32(chest.top)) / chest.scale,
    )
    trunk = np.abs(x) - np.float32(rng.uniform(0.385, 0.43)) - 0.04 * np.maximum(y, 0)
    shoulder = -y - 0.36 + 1.6 * np.maximum(np.abs(x) - 0.12, 0) ** 2
    arms = np.maximum(shoulder, np.abs(x) - np.float32(rng.uniform(0.5, 0.6)) + 0.35 * np.maximum(y - 0.1, 0))
    neck = np.maximum(np.abs(x) - 0.09, y + 0.3)
    inside = np.minimum(np.minimum(np.maximum(trunk, shoulder), arms), neck)
    values = (0.82 + 0.12 * np.clip(y, -0.4, 0.5)).astype(np.float32) * _soft(inside, 0.015)
    middle = np.abs(x + 0.01 * np.sin(3 * y))
    values += np.float32(rng.uniform(0.1, 0.2)) * _soft(middle - 0.06 - 0.02 * np.clip(y, 0, 1), 0.03)
    bone = 0.75 + 0.25 * np.tanh(4 * np.sin(y * np.float32(2 * np.pi / 0.062)))
    values += np.float32(rng.uniform(0.07, 0.13)) * _soft(middle - 0.033, 0.012) * bone
    return values - 0.12 * _soft(np.maximum(np.abs(x) - 0.017, y + 0.16), 0.012)  # the windpipe


def _ribs(rng: np.random.Generator, chest: Chest, points: np.ndarray) -> np.ndarray:
    """Return the ribs: steep curves at the back, flatter and fainter ones at the front."""
    x, y = (
        (points[0] - np.float32(chest.middle)) / chest.scale,
        (points[1] - np.float32(chest.top)) / chest.scale,
    )
    cage = _soft((x / 0.345) ** 2 + (np.maximum(np.abs(y + 0.02) - 0.1, 0) / 0.28) ** 2 - 1, 0.15)
    values, side = np.zeros_like(x), np.abs(x)
    for slope, gap, strength in ((0.25, 0.066, 0.1), (-0.55, 0.072, 0.06)):
        curve = y - np.float32(slope) * side - np.float32(1.6 if slope > 0 else -0.4) * side * side
        wave = np.cos((curve + np.float32(rng.uniform(0, gap))) * np.float32(2 * np.pi / gap))
        values += np.float32(strength * rng.uniform(0.7, 1.2)) / (1 + np.exp(-8 * (wave - 0.35)))
    return values * cage * (side > 0.03)


def _vessels(rng: np.random.Generator, chest: Chest, grid: int) -> np.ndarray:
    """Return the lungs' vessels: branching lines from each hilum, thinner outwards."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (2 * grid, 2 * grid))
    draw, side_px = ImageDraw.Draw(canvas), 2 * grid
    for side in (-1, 1):
        hilum = np.array([chest.middle + side * 0.075 * chest.scale, chest.top - 0.02 * chest.scale])
        for angle in rng.uniform(-1.35, 1.35, 16):
            start, width = hilum + rng.normal(0, 0.012, 2), rng.uniform(1.4, 3)
            for step in range(4):
                angle += rng.normal(0, 0.25)
                end = start + rng.uniform(0.03, 0.06) * chest.scale * np.array(
                    [side * np.cos(angle), np.sin(angle)]
                )
                shade = int(150 / (1 + 0.5 * step))
                line = [*(start * side_px), *(end * side_px)]
                draw.line(line, fill=shade, width=max(1, round(width * side_px / 512 * 2 / (1 + 0.6 * step))))
                start = end
    smooth = canvas.resize((grid, grid), Image.Resampling.BOX)
    return np.asarray(smooth, np.float32) * np.float32(rng.uniform(0.15, 0.3) / 255)


def _objects(rng: np.random.Generator, chest: Chest, ap: bool, grid: int) -> np.ndarray:
    """Return the clavicles, and for a patient in bed (AP) some leads and a tube."""
    from PIL import Image, ImageDraw

    side_px = 2 * grid
    canvas = Image.new("L", (side_px, side_px))
    draw = ImageDraw.Draw(canvas)

    def line(points: Any, shade: int, width: float) -> None:
        pixels = [(float(x * side_px), float(y * side_px)) for x, y in points]
        draw.line(pixels, fill=shade, width=max(1, round(width * side_px)), joint="curve")

    for side in (-1, 1):
        tilt = rng.normal(0, 0.015)
        at = [(0.035, -0.29), (0.12, -0.325 + tilt), (0.2, -0.33 + tilt), (0.3, -0.38 + tilt)]
        line([(chest.middle + side * chest.scale * x, chest.top + chest.scale * y) for x, y in at], 60, 0.022)
    for _ in range(rng.integers(1, 4) if ap else 0):
        start, end = rng.uniform(0.1, 0.9), rng.uniform(0.25, 0.75)
        at = np.stack([np.linspace(start, end, 12), np.linspace(0.02, rng.uniform(0.3, 0.7), 12)], 1)
        at[:, 0] += 0.04 * np.sin(np.linspace(0, rng.uniform(3, 9), 12))
        line(at, 130, 0.004)
        draw.ellipse([*(at[-1] * side_px - side_px * 0.012), *(at[-1] * side_px + side_px * 0.012)], fill=170)
    if ap and rng.random() < 0.4:
        line([(chest.middle + 0.004, 0), (chest.middle - 0.003, chest.top - 0.16 * chest.scale)], 110, 0.011)
    smooth = canvas.resize((grid, grid), Image.Resampling.BOX)
    return np.asarray(smooth, np.float32) * np.float32(0.4 / 255)


def _soft(level: np.ndarray, edge: float) -> np.ndarray:
    """Return 1 well inside (``level`` negative), 0 well outside, over an edge of this width."""
    t = np.clip(np.float32(0.5) - level / np.float32(edge), 0, 1).astype(np.float32)
    return t * t * (3 - 2 * t)


def _waves(rng: np.random.Generator, points: np.ndarray, shortest: float, count: int) -> np.ndarray:
    """Return a smooth field in about [-1, 1] made of plane waves no shorter than ``shortest``."""
    total = np.zeros(points.shape[1:], np.float32)
    for length, angle, phase in rng.uniform((1, 0, 0), (2, 6.28, 6.28), (count, 3)).astype(np.float32):
        wave = np.float32(6.28 / shortest) / length
        total += np.sin(wave * (np.cos(angle) * points[0] + np.sin(angle) * points[1]) + phase)
    return total / np.float32(count**0.5)


def _extent(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(axis=1), points.max(axis=1)])


def _inside(ellipse: Ellipse, points: np.ndarray) -> np.ndarray:
    """Return ``points``, those outside replaced by where the line to the centre leaves ``ellipse``."""
    c, s = np.cos(ellipse.turn), np.sin(ellipse.turn)
    x, y = points[0] - ellipse.x, points[1] - ellipse.y
    u, v = (c * x + s * y) / ellipse.a, (c * y - s * x) / ellipse.b
    shrink = 1 / np.maximum(np.hypot(u, v), 1)
    return np.stack([ellipse.x + x * shrink, ellipse.y + y * shrink])
