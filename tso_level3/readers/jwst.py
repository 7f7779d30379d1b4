"""Read metadata and world coordinates of files of the JWST pipeline.

Files are not opened as data models, which would read all of them.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.datatypes import Exposure
from tso_level3.readers.asdf_files import open_asdf
from tso_level3.readers.errors import InputError, brief, quiet
from tso_level3.readers.fits.cards import value
from tso_level3.readers.fits.scan import FitsFile, scan, table
from tso_level3.readers.metadata import plain

__all__ = ["file_metadata", "is_jwst", "sky_position"]

log = logging.getLogger(__name__)


def is_jwst(file: FitsFile) -> bool:
    """Whether a FITS file was made by the pipeline: it has SCI, and TELESCOP or ASDF."""
    science = file.find("SCI")
    if science is None or not science.is_image:
        return False
    said = str(value(file.primary, "TELESCOP", "")).upper() == "JWST"
    return said or file.find("ASDF") is not None


def file_metadata(file: FitsFile, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Read the metadata of a file, without its arrays.

    Parameters
    ----------
    file : FitsFile
        A file of the pipeline.
    tree : mapping
        Metadata of its headers, for a file whose ASDF extension is damaged or missing.

    Returns
    -------
    dict
        The tree below ``meta``.
    """
    try:
        # stdatamodels reads without end where the sizes in a header are damaged.
        if not file.whole:
            raise InputError("the file does not end where its headers say")
        from stdatamodels.jwst.datamodels.util import read_metadata

        with quiet():
            found = read_metadata(str(file.path), flatten=False)["meta"]
        return plain(found)
    except Exception as problem:
        log.warning(
            "%s: its metadata cannot be read as those of a data model (%s); the main keywords"
            " were taken",
            file.path,
            brief(problem),
        )
        return plain(tree)


def sky_position(exposure: Exposure, x: float, y: float) -> tuple[float, float] | None:
    """Convert a position in the frame to sky coordinates.

    Parameters
    ----------
    exposure : Exposure
        From a file or model of the pipeline.
    x, y : float
        The position, 0-based.

    Returns
    -------
    (float, float) or None
        Right ascension and declination [deg], by the world coordinate system that the pipeline
        assigned; None where there is none.
    """
    try:
        with quiet():
            wcs = _world(exposure)
            if wcs is None:
                return None
            sky = wcs(x, y, with_bounding_box=False)
    except Exception as problem:  # a gwcs object runs code of many packages
        log.debug("no sky position: %s", brief(problem))
        return None
    ra, dec = (float(np.asarray(angle)) for angle in sky[:2])
    return (ra, dec) if np.isfinite(ra) and np.isfinite(dec) else None


def _world(exposure: Exposure) -> Any:
    segment = exposure.segments[0]
    source = getattr(segment.source, "source", segment.source)
    source = source.sources[0] if hasattr(source, "sources") else source
    found = getattr(source, "wcs", None)
    if found is not None:
        return found
    path = getattr(getattr(source, "file", None), "label", None) or getattr(source, "path", None)
    if path is None:
        return None
    if str(path).endswith(".asdf"):
        with open_asdf(Path(path)) as file:
            return file.tree["meta"]["wcs"]
    import asdf

    file = scan(Path(path))
    extension = file.find("ASDF")
    if extension is None:
        return None
    rows = table(file, extension)
    if rows is None:
        return None
    with asdf.open(io.BytesIO(rows["ASDF_METADATA"].tobytes()), lazy_tree=True) as content:
        return content.tree["meta"]["wcs"]
