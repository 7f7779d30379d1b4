"""Metadata of headers as a tree of plain values, under the names of the JWST metadata."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tso_level3.config.instruments import PIXEL_SCALES
from tso_level3.datatypes import Optics
from tso_level3.readers.errors import InputError
from tso_level3.readers.fits.cards import value

__all__ = ["get", "number", "optics_of", "plain", "position_of", "refuse_spectra", "tree_of"]

#: Path in the metadata tree and keyword, of the metadata that the readers use.
KEYWORDS = {
    "telescope": "TELESCOP",
    "date": "DATE",
    "filename": "FILENAME",
    "bunit_data": "BUNIT",
    "target.catalog_name": "TARGNAME",
    "target.proposer_name": "TARGPROP",
    "target.ra": "TARG_RA",
    "target.dec": "TARG_DEC",
    "observation.date": "DATE-OBS",
    "observation.time": "TIME-OBS",
    "observation.date_beg": "DATE-BEG",
    "observation.obs_id": "OBS_ID",
    "observation.visit_id": "VISIT_ID",
    "observation.activity_id": "ACT_ID",
    "observation.exposure_number": "EXPOSURE",
    "instrument.name": "INSTRUME",
    "instrument.detector": "DETECTOR",
    "instrument.filter": "FILTER",
    "instrument.pupil": "PUPIL",
    "instrument.channel": "CHANNEL",
    "subarray.name": "SUBARRAY",
    "subarray.xstart": "SUBSTRT1",
    "subarray.ystart": "SUBSTRT2",
    "exposure.type": "EXP_TYPE",
    "exposure.start_time": "EXPSTART",
    "exposure.mid_time": "EXPMID",
    "exposure.end_time": "EXPEND",
    "exposure.start_time_mjd": "MJD-BEG",
    "exposure.mid_time_mjd": "MJD-AVG",
    "exposure.end_time_mjd": "MJD-END",
    "exposure.start_time_tdb": "TDB-BEG",
    "exposure.mid_time_tdb": "TDB-MID",
    "exposure.end_time_tdb": "TDB-END",
    "exposure.nints": "NINTS",
    "exposure.ngroups": "NGROUPS",
    "exposure.integration_start": "INTSTART",
    "exposure.integration_end": "INTEND",
    "exposure.integration_time": "EFFINTTM",
    "exposure.frame_time": "TFRAME",
    "exposure.group_time": "TGROUP",
    "exposure.nresets_between_ints": "NRESETS",
    "exposure.drop_frames3": "DRPFRMS3",
    "exposure.segment_number": "EXSEGNUM",
    "exposure.segment_total": "EXSEGTOT",
    "photometry.pixelarea_steradians": "PIXAR_SR",
    "photometry.pixelarea_arcsecsq": "PIXAR_A2",
    "wcsinfo.siaf_xref_sci": "XREF_SCI",
    "wcsinfo.siaf_yref_sci": "YREF_SCI",
    "time.barycentric_correction": "BARTDELT",
    "time.barycentric_expstart": "BSTRTIME",
    "time.barycentric_expmid": "BMIDTIME",
    "time.barycentric_expend": "BENDTIME",
}

_SPECTRA = {
    "NRC_TSGRISM",
    "NRC_GRISM",
    "NRC_WFSS",
    "NIS_SOSS",
    "NIS_WFSS",
    "MIR_LRS-FIXEDSLIT",
    "MIR_LRS-SLITLESS",
    "MIR_MRS",
    "MIR_WFSS",
    "NRS_BRIGHTOBJ",
    "NRS_FIXEDSLIT",
    "NRS_IFU",
    "NRS_MSASPEC",
    "NRS_LAMP",
    "NRS_AUTOWAVE",
    "NRS_AUTOFLAT",
}


def tree_of(*headers: Mapping[str, Any]) -> dict[str, Any]:
    """Read the metadata from headers.

    Parameters
    ----------
    *headers : mapping
        Where a keyword stands in several, the first counts.

    Returns
    -------
    dict
        Nested; only what was found.
    """
    tree: dict[str, Any] = {}
    for place, keyword in KEYWORDS.items():
        found = next(
            (v for v in (value(header, keyword) for header in headers) if v is not None), None
        )
        if found is not None:
            *path, name = place.split(".")
            node = tree
            for step in path:
                node = node.setdefault(step, {})
            node[name] = found
    return tree


def get(tree: Mapping[str, Any], place: str, default: Any = None) -> Any:
    """Return a value of the tree; ``place`` is its path, with dots."""
    node: Any = tree
    for step in place.split("."):
        if not isinstance(node, Mapping) or node.get(step) is None:
            return default
        node = node[step]
    return node


def number(tree: Mapping[str, Any], place: str) -> float:
    """Return a number of the tree; NaN where there is none."""
    found = get(tree, place)
    if isinstance(found, bool) or not isinstance(found, int | float | np.number):
        return math.nan
    return float(found)


def plain(tree: Any) -> Any:
    """Copy a tree as values that any file format holds, without arrays and world coordinates.

    Parameters
    ----------
    tree : object
        Mappings, sequences and values of any type.

    Returns
    -------
    object
        Dicts, lists, texts, numbers, booleans and None; other values are converted to text.
    """
    if isinstance(tree, Mapping):
        return {
            str(key): plain(item)
            for key, item in tree.items()
            if key != "wcs" and not _is_array(item)
        }
    if isinstance(tree, str):
        return str(tree)
    if tree is None or isinstance(tree, bool):
        return tree
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, int | float):
        return tree
    if isinstance(tree, Iterable) and not isinstance(tree, bytes):
        return [plain(item) for item in tree if not _is_array(item)]
    return str(tree.isoformat() if hasattr(tree, "isoformat") else tree)


def _is_array(item: Any) -> bool:
    return hasattr(item, "shape") and hasattr(item, "dtype") and not isinstance(item, np.generic)


def _word(tree: Mapping[str, Any], place: str) -> str:
    return str(get(tree, place, "")).strip().upper()


def optics_of(tree: Mapping[str, Any]) -> Optics:
    """Read instrument, detector, filter, pupil and pixel scale.

    Parameters
    ----------
    tree : mapping
        Metadata.

    Returns
    -------
    Optics
        Empty texts and NaN where the metadata do not tell.
    """
    detector = _word(tree, "instrument.detector")
    channel = _word(tree, "instrument.channel")
    instrument = _word(tree, "instrument.name")
    if instrument == "NIRCAM" and not channel and detector:
        channel = "LONG" if detector.endswith(("LONG", "5")) else "SHORT"
    area = number(tree, "photometry.pixelarea_arcsecsq")
    key = instrument
    if instrument == "NIRCAM" and channel:
        key = "NIRCAM_LONG" if channel == "LONG" else "NIRCAM_SHORT"
    scale = math.sqrt(area) if area > 0 else PIXEL_SCALES.get(key, math.nan)
    return Optics(
        instrument=instrument,
        detector=detector,
        filter=_word(tree, "instrument.filter"),
        pupil=_word(tree, "instrument.pupil"),
        channel=channel,
        subarray=_word(tree, "subarray.name"),
        exp_type=_word(tree, "exposure.type"),
        pixel_scale=scale,
    )


def position_of(tree: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the planned x, y of the star, 0-based (1-based in the metadata)."""
    x, y = (number(tree, f"wcsinfo.siaf_{axis}ref_sci") for axis in "xy")
    return (x - 1, y - 1) if math.isfinite(x) and math.isfinite(y) else None


def refuse_spectra(name: str, tree: Mapping[str, Any]) -> None:
    """Raise where JWST data are spectra, not images.

    Parameters
    ----------
    name : str
        Name of the input in the error message.
    tree : mapping
        Metadata.

    Raises
    ------
    InputError
        EXP_TYPE is a spectroscopic one.
    """
    optics = optics_of(tree)
    if _word(tree, "telescope") != "JWST" or optics.exp_type not in _SPECTRA:
        return
    # The short-wavelength side of a grism time series is imaged through a weak lens.
    if optics.exp_type == "NRC_TSGRISM" and optics.channel == "SHORT":
        return
    raise InputError(
        f"{name}: EXP_TYPE {optics.exp_type} found, expected an imaging exposure such as"
        " NRC_TSIMAGE or MIR_IMAGE"
    )
