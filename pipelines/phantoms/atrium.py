"""A seeded phantom of the left atrium in MRI, in the layout of the Medical Segmentation Decathlon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.phantoms.target import write_whole
from pipelines.progress import track

if TYPE_CHECKING:
    import numpy as np
    from nibabel.nifti1 import Nifti1Image

NAME = "LeftAtrium phantom"  # in dataset.json; the real set's is LeftAtrium
VERSION = 1  # raise it when the images of a seed change
LARGEST, SMALLEST = 1024, 8  # voxels an axis


def write_phantom(
    target: Path, cases: int = 20, seed: int = 0, size: tuple[int, int, int] | None = None
) -> None:
    """Write ``cases`` phantom patients to the folder ``target``, laid out like the MSD's Task02_Heart.

    Case k depends on ``seed`` and k alone, and the same arguments give the same bytes. ``target`` appears
    once it is whole. A folder that already holds this very phantom is left as it is.

    Args:
        target: a folder that is absent or empty.
        cases: how many, each with a label; the test list is empty, unlike the real one.
        seed: zero or more.
        size: voxels to the right, front and head (a case may store these axes in another order); smaller
            means coarser, for the field of view in mm stays. None draws about 100 x 100 x 31 for each case.

    Raises:
        UserError: on an unusable argument, or when ``target`` holds anything else.
    """
    _check_arguments(cases, seed, size)
    contents = _dataset_json(cases, seed, size)
    files = [case[key] for case in contents["training"] for key in ("image", "label")]

    def write(root: Path) -> None:
        for folder in ("imagesTr", "labelsTr"):
            (root / folder).mkdir()
        for k in track(range(1, cases + 1), "Phantom"):
            _write_case(root, k, *make_case(seed, k, size))

    write_whole(target, "dataset.json", contents, write, files)


def make_case(
    seed: int, index: int, size: tuple[int, int, int] | None = None
) -> tuple[Nifti1Image, Nifti1Image]:
    """Return the image (int16) and the label (uint8: 0 background, 1 left atrium) of one phantom patient.

    Both share one oblique affine (RAS+ mm, equal in sform and qform); the anatomy is defined in mm, so its
    volume does not depend on ``size``.
    """
    import nibabel as nib
    import numpy as np

    from pipelines.phantoms import heart

    rng = np.random.default_rng([seed, index])
    points, affine = _grid(rng, size)
    values, label = heart.paint(rng, points)
    image = _acquire(rng, values, points)
    codes = str(rng.choice(["RAS", "LPS", "LAS", "RPI", "LPI", "ARS", "PLI", "SPL"]))
    return tuple(_nifti(nib, array, affine, codes) for array in (image, label.astype(np.uint8)))


def _check_arguments(cases: int, seed: int, size: tuple[int, int, int] | None) -> None:
    if not 1 <= cases <= 999:
        raise UserError(f"cases must be 1 to 999, got {cases}")
    if seed < 0:
        raise UserError(f"seed must be zero or more, got {seed}")
    if size is not None and (len(size) != 3 or not all(SMALLEST <= n <= LARGEST for n in size)):
        raise UserError(f"size must be three numbers of voxels from {SMALLEST} to {LARGEST}, got {size}")


def _dataset_json(cases: int, seed: int, size: tuple[int, int, int] | None) -> dict[str, Any]:
    """Return the contents of ``dataset.json``: the real one's keys; the description names the arguments."""
    names = [f"la_{k:03d}.nii.gz" for k in range(1, cases + 1)]
    shape = "x".join(map(str, size)) if size else "varied"
    return {
        "name": NAME,
        "description": f"Computed, no patient: phantom {VERSION}, {cases} cases, seed {seed}, size {shape}",
        "reference": "Cardiothorax, pipelines.phantoms.atrium",
        "licence": "Apache-2.0",
        "release": f"{VERSION}.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "left atrium"},
        "numTraining": cases,
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }


def _write_case(root: Path, k: int, image: Nifti1Image, label: Nifti1Image) -> None:
    import nibabel as nib

    for folder, volume in (("imagesTr", image), ("labelsTr", label)):
        nib.save(volume, root / folder / f"la_{k:03d}.nii.gz")


def _grid(rng: np.random.Generator, size: tuple[int, int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels' places in the patient, (3, x, y, z) mm, and the affine of an oblique axial stack."""
    import numpy as np
    from scipy.spatial.transform import Rotation

    in_plane = rng.uniform(128, 152)
    field_of_view = np.array([in_plane, in_plane, rng.uniform(86, 96)])
    pixels, slices = rng.integers(90, 111), rng.integers(26, 37)
    shape = np.array(size or (pixels, pixels, slices))
    axes = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix() * (
        field_of_view / shape
    )
    centre = np.array([-8, 16, 2]) + rng.uniform(-1, 1, 3) * (6, 6, 2)
    indices = np.indices(shape, dtype=np.float32) - ((shape - 1) / 2).astype(np.float32)[:, None, None, None]
    points = np.einsum("ij,jxyz->ixyz", axes.astype(np.float32), indices)
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = rng.uniform(-40, 40, 3) - axes @ ((shape - 1) / 2)
    return points + centre.astype(np.float32)[:, None, None, None], affine


def _acquire(rng: np.random.Generator, values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return what a scanner stores: int16, with a bias field, Rician noise and a scale of its own."""
    import numpy as np

    from pipelines.phantoms import heart

    field = values * np.exp(np.float32(rng.uniform(0.1, 0.25)) * heart.waves(rng, points, 180, 4))
    noise = rng.normal(0, rng.uniform(0.03, 0.07), (2, *values.shape)).astype(np.float32)
    magnitude = np.hypot(field + noise[0], noise[1])
    return np.round(magnitude * rng.uniform(250, 1500)).astype(np.int16)


def _nifti(nib: Any, array: np.ndarray, affine: np.ndarray, codes: str) -> Nifti1Image:
    """Return ``array`` (axes RAS) as NIfTI whose axes run along ``codes``, with sform and qform set."""
    orientations = nib.orientations
    image = nib.Nifti1Image(array, affine).as_reoriented(
        orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(codes))
    )
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    return image
