"""Milliseconds to read a chest X-ray of a DICOM folder as torchxrayvision does.

    XRV_PYTHON scripts/peers/xrv_xrays.py DIR [--files 160] [--engine cv2]

Its ``RSNA_Pneumonia_Dataset`` with its center crop and resizer to 224 x 224. It asks for a table of the headers' views,
which a data set of one's own does not have: a made-up one, "PA" for all, stands in. To be run by ``turns.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torchxrayvision as xrv
from side import answer, clock


def main() -> None:
    """Make the data set and answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--files", type=int, default=160)
    parser.add_argument("--engine", default="skimage")
    given = parser.parse_args()
    labels = given.dataset_dir / "stage_2_train_labels.csv"
    ids = pd.read_csv(labels)["patientId"].unique()
    resize = xrv.datasets.XRayResizer(224, engine=given.engine)
    transforms = [xrv.datasets.XRayCenterCrop(), resize]

    def transform(image: object) -> object:
        for one in transforms:
            image = one(image)
        return image

    with tempfile.NamedTemporaryFile("w", suffix=".csv") as views:
        pd.DataFrame({"PatientID": ids, "ViewPosition": "PA"}).to_csv(views.name, index=False)
        dataset = xrv.datasets.RSNA_Pneumonia_Dataset(
            str(given.dataset_dir / "stage_2_train_images"),
            csvpath=str(labels),
            dicomcsvpath=views.name,
            transform=transform,
            extension=".dcm",
        )

    def measure() -> float:
        started, files = clock(), min(given.files, len(dataset))
        for index in range(files):
            dataset[index]
        return 1000 * (clock() - started) / files

    answer(measure)


if __name__ == "__main__":
    main()
