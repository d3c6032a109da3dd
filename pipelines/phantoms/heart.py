"""The anatomy of a phantom: a heart in a chest, painted in mm."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

# The atlas: ellipsoids (centre, radii) and tubes (from, to, radius at both ends) in mm, about the centre of
# the left atrium, axes to the patient's right, front and head (RAS+).
_ATRIUM = ((0, 0, 0), (30, 20, 25))
_APPENDAGE = ((-20, 10, 10), (-41, 24, 15), 9, 5)
_VEINS = (
    ((18, -6, 9), (74, -18, 34), 7, 4),
    ((18, -8, -8), (70, -30, -14), 6.5, 4),
    ((-18, -6, 10), (-72, -16, 38), 7, 4),
    ((-18, -8, -6), (-68, -34, -8), 6.5, 4),
)
_VEIN_LABEL_MM = 9  # how far beyond the body of the atrium a vein still belongs to the label
_VENTRICLES = {"left": ((-44, 30, -24), (38, 21, 22)), "right": ((-6, 52, -26), (40, 22, 28))}
_RIGHT_ATRIUM = ((36, 24, -8), (22, 23, 27))
_AORTA = (
    ((-8, 34, -4), (10, 30, 60), 13, 14),  # ascending
    ((-30, -31, -90), (-27, -34, 90), 11, 11),  # descending
)
_RIGHT_VESSELS = (
    ((-16, 52, 0), (-22, 22, 42), 12, 12),  # pulmonary trunk
    ((-22, 18, 42), (60, -6, 36), 10, 8),  # right pulmonary artery
    ((-22, 18, 44), (-60, -12, 46), 10, 7),  # left pulmonary artery
    ((35, 14, 12), (33, 12, 90), 9, 9),  # superior vena cava
    ((33, 14, -24), (28, 6, -90), 11, 11),  # inferior vena cava
)


def paint(rng: np.random.Generator, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tissue's brightness (blood about 1) and the mask of the left atrium at ``points``.

    Args:
        rng: draws the patient.
        points: (3, x, y, z) float32, mm from the atrium's centre to the patient's right, front and head.
    """
    bend = np.stack([waves(rng, points, 45, 2) for _ in range(3)])
    body = points + 2 * bend
    turn = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix().astype(np.float32)
    heart = np.einsum("ij,jxyz->ixyz", turn, body) / np.float32(rng.uniform(0.92, 1.1))
    values = _paint_chest(rng, body)
    atrium, label = _left_atrium(rng, heart)
    _paint_heart(rng, values, heart, atrium)
    _over(values, rng.uniform(0.92, 1.06), atrium)
    return values * (1 + 0.05 * waves(rng, points, 9, 6)), label


def waves(rng: np.random.Generator, points: np.ndarray, shortest: float, count: int) -> np.ndarray:
    """Return a smooth field in about [-1, 1] made of plane waves no shorter than ``shortest`` mm."""
    field = np.zeros(points.shape[1:], np.float32)
    for _ in range(count):
        direction = rng.normal(size=3)
        direction *= 2 * np.pi / (rng.uniform(1, 2) * shortest * np.linalg.norm(direction))
        field += np.sin(np.einsum("i,ixyz->xyz", direction.astype(np.float32), points) + rng.uniform(0, 6.28))
    return field / np.float32(count**0.5)


def _ellipsoid(points: np.ndarray, centre: Any, radii: Any, axes: np.ndarray | None = None) -> np.ndarray:
    """Return the approximate signed distance in mm to an ellipsoid, negative inside."""
    radii = np.asarray(radii, np.float64)
    matrix = (np.eye(3) if axes is None else axes) / radii[:, None]
    centred = points - np.asarray(centre, np.float32)[:, None, None, None]
    scaled = np.einsum("ij,jxyz->ixyz", matrix.astype(np.float32), centred)
    return (np.sqrt((scaled**2).sum(0)) - 1) * np.float32(radii.prod() ** (1 / 3))


def _tube(points: np.ndarray, start: Any, end: Any, radius: float, end_radius: float) -> np.ndarray:
    """Return the approximate signed distance in mm to a tapered tube with round ends, negative inside."""
    start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
    along = (end - start) / ((end - start) ** 2).sum()
    centred = points - start[:, None, None, None]
    t = np.clip(np.einsum("i,ixyz->xyz", along, centred), 0, 1)
    away = centred - (end - start)[:, None, None, None] * t
    return np.sqrt((away**2).sum(0)) - (np.float32(radius) + np.float32(end_radius - radius) * t)


def _union(*distances: np.ndarray) -> np.ndarray:
    """Return the signed distance to the union of several shapes."""
    return np.minimum.reduce(distances)


def _over(values: np.ndarray, brightness: Any, distance: np.ndarray) -> None:
    """Paint ``brightness`` where ``distance`` is negative, over an edge of 1.5 mm."""
    values += np.clip(0.5 - distance / np.float32(1.5), 0, 1) * (np.float32(brightness) - values)


def _paint_chest(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Return the brightness of everything but the heart and the vessels near it."""
    values = np.full(points.shape[1:], 0.02, np.float32)
    skin = _ellipsoid(points, (0, -10, 0), (165, rng.uniform(90, 97), 400))
    _over(values, rng.uniform(0.65, 0.95), skin)
    _over(values, 0.38, skin + rng.uniform(7, 13))
    for side in (-1, 1):
        _over(values, 0.09, _ellipsoid(points, (side * 82, -12, 0), (62, 78, 150)))
        for _ in range(8):  # the lung's vessels, from the hilum outwards
            hilum = np.array([side * 34, -12, 10]) + rng.normal(0, 8, 3)
            outwards = (side * rng.uniform(25, 60), rng.uniform(-45, 45), rng.uniform(-50, 50))
            vessel = _tube(points, hilum, hilum + outwards, rng.uniform(2, 3.5), 1)
            _over(values, rng.uniform(0.4, 0.8), vessel)
    _over(values, 0.6, _ellipsoid(points, (0, 12, -4), (52, 64, 70)))  # mediastinal fat
    _over(values, rng.uniform(0.45, 0.6), _ellipsoid(points, (60, 20, -105), (85, 75, 62)))  # liver
    _over(values, 0.3, _tube(points, (2, 76, -90), (2, 80, 90), 7, 8))  # sternum
    _over(values, 0.42, _tube(points, (3, -58, -90), (3, -58, 90), 25, 25))  # muscle of the back
    disc = np.sin(points[2] * np.float32(2 * np.pi / 26) + rng.uniform(0, 6.28)) > 0.9
    _over(values, np.where(disc, 0.3, 0.58), _tube(points, (3, -50, -90), (3, -50, 90), 16, 16))
    _over(values, 0.2, _tube(points, (3, -73, -90), (3, -73, 90), 8, 8))  # spinal canal
    _over(values, 0.5, _tube(points, (3, -73, -90), (3, -73, 90), 4, 4))  # spinal cord
    _over(values, 0.42, _tube(points, (-8, -27, -90), (-4, -30, 90), 6, 6))  # oesophagus
    return values


def _left_atrium(rng: np.random.Generator, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the signed distance to the atrium with its veins and appendage, and the label."""
    body = _ellipsoid(points, _ATRIUM[0], _ATRIUM[1] * rng.uniform(0.9, 1.12, 3))
    veins = []
    for start, end, radius, end_radius in _VEINS:
        width = rng.uniform(0.85, 1.15)
        veins.append(_tube(points, start, end + rng.normal(0, 4, 3), radius * width, end_radius * width))
    body, veins = _union(body, _tube(points, *_APPENDAGE)), _union(*veins)
    label = (body < 0) | ((veins < 0) & (body < _VEIN_LABEL_MM))
    return np.minimum(body, veins), label


def _paint_heart(
    rng: np.random.Generator, values: np.ndarray, points: np.ndarray, atrium: np.ndarray
) -> None:
    """Paint the muscle, the other chambers and the vessels, each with a wall towards the left atrium."""
    long = np.array([-0.72, 0.55, -0.42]) / np.linalg.norm([-0.72, 0.55, -0.42])
    across = np.cross(long, [0, 0, 1]) / np.linalg.norm(np.cross(long, [0, 0, 1]))
    axes = np.stack([long, across, np.cross(long, across)])
    ventricle = _ellipsoid(points, *_VENTRICLES["left"], axes)
    muscle = ventricle - rng.uniform(8, 11)
    left = _union(ventricle, *(_tube(points, *vessel) for vessel in _AORTA))
    right = np.maximum(_ellipsoid(points, *_VENTRICLES["right"], axes), -muscle)
    right = _union(
        right, _ellipsoid(points, *_RIGHT_ATRIUM), *(_tube(points, *vessel) for vessel in _RIGHT_VESSELS)
    )
    _over(values, rng.uniform(0.3, 0.42), _union(muscle, left - 2, right - 2.5, atrium - 2))
    _over(values, rng.uniform(0.85, 1.1), np.maximum(right, 2.5 - np.minimum(left, atrium)))
    _over(values, rng.uniform(0.85, 1.1), np.maximum(left, 2 - atrium))
