"""NRRD and MetaImage through ITK."""

from __future__ import annotations

import ctypes
import functools
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.readers.geometry import affine_from_lps
from pipelines.readers.volume import Volume, check_size


def read_itk(path: Path) -> Volume:
    """Read a NRRD (``.nrrd``, ``.nhdr``) or MetaImage (``.mha``, ``.mhd``) file.

    ITK gives the grid in LPS mm whatever anatomical space the file counts in; it is turned to RAS+. A file
    that names no space is taken as LPS, as ITK does.

    Raises:
        UserError: no such image, damaged, cut short or without its data file, or not one 3-D volume of
            numbers.
    """
    # ITK's modules load as they are first used, each with SWIG's DeprecationWarnings; as errors
    # those would end the process with a segmentation fault.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _read(path)


def _read(path: Path) -> Volume:
    import itk

    try:
        info = _information(itk, path)
    except Exception as error:
        raise _damaged(error) from error
    shape = tuple(int(info.GetDimensions(axis)) for axis in range(info.GetNumberOfDimensions()))
    squeezed = shape[:-1] if len(shape) == 4 and shape[-1] == 1 else shape
    if info.GetNumberOfComponents() != 1:
        raise UserError(
            f"expected one number a voxel, got {info.GetNumberOfComponents()}; export it as grey values"
        )
    check_size(squeezed)
    try:
        image = itk.imread(str(path), itk.F)
        # ITK's arrays count the axes backwards, and a view of its memory must not outlive the image.
        array = itk.array_from_image(image).T.reshape(squeezed)
    except Exception as error:
        raise _damaged(error) from error
    directions = itk.array_from_matrix(image.GetDirection())[:3, :3]
    affine = affine_from_lps(directions, np.array(image.GetSpacing())[:3], np.array(image.GetOrigin())[:3])
    notes = [] if squeezed == shape else [f"the last axis of the shape {shape} was dropped"]
    return Volume(array, affine, notes)


def _information(itk: Any, path: Path) -> Any:
    info = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    info.SetFileName(str(path))
    info.ReadImageInformation()
    _keep_types()
    return info


@functools.cache
def _keep_types() -> None:
    """Keep the table of types that ITK's modules share to the end of the process.

    SWIG frees it with the last module that holds it. Where that comes after its own types are gone, a process that has
    done all its work ends with a segmentation fault (ITK 5.4.7).
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("swig_runtime_data") and hasattr(module, "type_pointer_capsule"):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(module.type_pointer_capsule))


def _damaged(error: Exception) -> UserError:
    # ITK's own words run over many lines and name its build folder.
    return UserError(
        f"expected a whole NRRD or MetaImage, got one that is damaged, cut short or without its data file "
        f"({type(error).__name__}); copy or export it again"
    )
