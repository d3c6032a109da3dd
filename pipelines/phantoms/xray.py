"""Seeded phantom chest X-rays: JPEG Baseline DICOM files in the RSNA challenge's layout, with labels and boxes."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.phantoms.target import write_whole
from pipelines.progress import track

if TYPE_CHECKING:
    import numpy as np
    from pydicom import Dataset

    from pipelines.phantoms.chest import Chest

VERSION = 1  # raise it when the images of a seed change
MARKER = "phantom.json"
IMAGES = "stage_2_train_images"
LARGEST, SMALLEST = 4096, 64  # pixels a side
HEART_FRAME = 224  # pixels a side that the heart's boxes refer to, as in the real table


@dataclass(frozen=True)
class Xray:
    """One phantom: ``pixels`` (size, size) uint8 as stored, its anatomy, and what its header says."""

    pixels: np.ndarray
    chest: Chest
    label: int
    view: str
    photometric: str
    age: int
    sex: str
    spacing: float


def write_pneumonia_phantom(target: Path, cases: int = 60, seed: int = 0, size: int = 1024) -> None:
    """Write phantoms in the layout of the RSNA Pneumonia Detection Challenge, with all of its tables.

    Case k depends on ``seed``, ``size`` and k alone, and the same arguments give the same bytes. Two of five cases are
    positive; AP is commoner among them, as in the real data; every fifth case is of the same patient as the one before
    it (``nih_patients.csv``). ``target`` appears once it is whole; one that holds this very phantom is left as it is.

    Args:
        target: a folder that is absent or empty.
        cases: how many images.
        seed: zero or more.
        size: pixels a side.

    Raises:
        UserError: on an unusable argument, or when ``target`` holds anything else.
    """

    def write(root: Path) -> None:
        rows: list[list[Any]] = []
        classes: list[list[Any]] = []
        patients: list[list[Any]] = []
        for k in track(range(cases), "Phantom"):
            xray, name = make_xray(seed, k, size), case_name(seed, k)
            write_dicom(root / IMAGES / f"{name}.dcm", xray, name, seed, k)
            boxes = [_rounded(box * size) for box in xray.chest.boxes]
            rows += [[name, *_xywh(box), 1] for box in boxes] or [[name, "", "", "", "", 0]]
            kind = "Lung Opacity" if xray.label else ("Normal", "No Lung Opacity / Not Normal")[k % 2]
            classes += [[name, kind]] * max(1, len(boxes))
            patients.append([name, patient_of(k) + 1, "Pneumonia" if xray.label else "No Finding"])
        _write_csv(root / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", rows)
        _write_csv(root / "stage_2_detailed_class_info.csv", "patientId,class", classes)
        _write_csv(root / "nih_patients.csv", "patientId,nih_patient,nih_finding_labels", patients)

    _write(target, "pneumonia", cases, seed, size, write)


def write_heart_phantom(target: Path, cases: int = 60, seed: int = 0, size: int = 1024) -> None:
    """Write phantoms with the heart's box and the thorax's inner range, in the layout of the cardiac labels.

    As :func:`write_pneumonia_phantom`; every patient has one image, a third of them is AP, names hold dots, and both
    tables refer to 224 x 224 pixels: boxes in whole pixels as in the real one, the range to 0.01.

    Args:
        target: a folder that is absent or empty.
        cases: how many images.
        seed: zero or more.
        size: pixels a side.

    Raises:
        UserError: on an unusable argument, or when ``target`` holds anything else.
    """

    def write(root: Path) -> None:
        hearts: list[list[Any]] = []
        thoraces: list[list[Any]] = []
        for k in track(range(cases), "Phantom"):
            xray, name = make_xray(seed, k, size, healthy=True), f"1.2.276.{seed}.{k + 1}"
            write_dicom(root / IMAGES / f"{name}.dcm", xray, name, seed, k)
            box, thorax = xray.chest.heart_box, xray.chest.thorax
            hearts.append(["heart", *_xywh(_rounded(box * HEART_FRAME)), name, HEART_FRAME, HEART_FRAME])
            ratio = (box[2] - box[0]) / (thorax[1] - thorax[0])
            thoraces.append([name, *(f"{x * HEART_FRAME:.2f}" for x in thorax), f"{ratio:.4f}"])
        _write_csv(root / "rsna_heart_detection.csv", "label,x0,y0,w,h,name,img_shape_x,img_shape_y", hearts)
        _write_csv(root / "thorax.csv", "name,thorax_x0,thorax_x1,cardiothoracic_ratio", thoraces)

    _write(target, "cardiac", cases, seed, size, write)


def make_xray(seed: int, index: int, size: int = 1024, healthy: bool = False) -> Xray:
    """Return phantom ``index`` of ``seed``, ``size`` pixels a side; a healthy one is of a patient of its own."""
    import numpy as np

    from pipelines.phantoms import chest

    label = 0 if healthy else int(index % 5 in (1, 3))
    person = np.random.default_rng([seed, 0, index if healthy else patient_of(index)])
    rng = np.random.default_rng([seed, 1, index])
    ap = bool(rng.random() < (0.7 if label else 0.33))
    age, sex = int(person.integers(18, 91)), "MF"[person.integers(2)]
    anatomy = chest.draw_chest(person, ap)
    if label:
        chest.add_opacities(rng, anatomy)
    absorbed = chest.paint(rng, anatomy, ap, min(size, chest.GRID))
    pixels = _expose(rng, absorbed, size)
    inverted = bool(rng.random() < 0.1)
    pixels, kind = (255 - pixels, "MONOCHROME1") if inverted else (pixels, "MONOCHROME2")
    spacing = float(rng.choice([0.139, 0.143, 0.168, 0.171, 0.194])) * 1024 / size
    return Xray(pixels, anatomy, label, "AP" if ap else "PA", kind, age, sex, round(spacing, 4))


def patient_of(index: int) -> int:
    """Return the first image of the patient of image ``index``: of 0, 1, 2, 3, 4 the last two are of one patient."""
    return index - (index % 5 == 4)


def case_name(seed: int, index: int) -> str:
    """Return a name like the challenge's, a UUID that follows from ``seed`` and ``index``."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"cardiothorax phantom {seed} {index}"))


def write_dicom(path: Path, xray: Xray, name: str, seed: int, index: int) -> None:
    """Write ``xray`` as a JPEG Baseline secondary capture with the tags of the challenge's files."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    uids = [
        generate_uid(entropy_srcs=[kind, str(seed), str(index), name])
        for kind in ("study", "series", "instance")
    ]
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, uids[2]
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uids
    _describe(dataset, xray, name)
    dataset.PixelData = encapsulate([_jpeg(xray.pixels)])
    dataset["PixelData"].VR = "OB"
    path.parent.mkdir(exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def _describe(dataset: Dataset, xray: Xray, name: str) -> None:
    """Set the tags that the challenge's files have."""
    dataset.Modality, dataset.ConversionType = "CR", "WSD"
    dataset.SeriesDescription = f"view: {xray.view}"
    dataset.PatientName = dataset.PatientID = name
    dataset.PatientSex, dataset.PatientAge = xray.sex, f"{xray.age:03d}Y"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "19010101", "000000.00", ""
    dataset.PatientBirthDate, dataset.ReferringPhysicianName, dataset.PatientOrientation = "", "", ""
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", xray.view
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "", 1, 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, xray.photometric
    dataset.Rows, dataset.Columns = xray.pixels.shape
    dataset.PixelSpacing = [xray.spacing, xray.spacing]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", "ISO_10918_1"


def _expose(rng: np.random.Generator, absorbed: np.ndarray, size: int) -> np.ndarray:
    """Return (size, size) uint8, bright where much is absorbed: contrast, the side marker and grain of its own."""
    import numpy as np
    from PIL import Image, ImageDraw

    low, high = rng.uniform(0.05, 0.3), rng.uniform(1.1, 1.35)
    bright = np.clip((absorbed - low) / (high - low), 0, 1) ** rng.uniform(0.75, 1.3)
    small = Image.fromarray((bright * rng.uniform(215, 240) + 4).astype(np.uint8))
    canvas = small.resize((size, size), Image.Resampling.BICUBIC)
    x, y, arm = rng.uniform(0.86, 0.93) * size, rng.uniform(0.04, 0.1) * size, 0.035 * size
    draw = ImageDraw.Draw(canvas)
    draw.line([(x, y), (x, y + 1.4 * arm), (x + arm, y + 1.4 * arm)], fill=250, width=max(1, size // 110))
    grain = int(rng.integers(3, 9))
    noise = rng.integers(0, 2 * grain + 1, (size, size), dtype=np.uint8)
    return (np.asarray(canvas).astype(np.int16) + noise - grain).clip(0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _rounded(box: np.ndarray) -> list[int]:
    return [round(float(value)) for value in box]


def _xywh(box: Sequence[int]) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


def _write(target: Path, kind: str, cases: int, seed: int, size: int, write: Callable[[Path], None]) -> None:
    if not 2 <= cases <= 99_999:
        raise UserError(f"cases must be 2 to 99999, got {cases}")
    if seed < 0:
        raise UserError(f"seed must be zero or more, got {seed}")
    if not SMALLEST <= size <= LARGEST:
        raise UserError(f"size must be {SMALLEST} to {LARGEST} pixels a side, got {size}")
    arguments = {"phantom": kind, "version": VERSION, "cases": cases, "seed": seed, "size": size}
    write_whole(target, MARKER, arguments, write)


def _write_csv(path: Path, header: str, rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header.split(","), *rows])
