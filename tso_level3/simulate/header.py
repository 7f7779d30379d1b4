"""Metadata of synthetic level-2 files: keywords, INT_TIMES and world coordinates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from astropy.time import Time

from tso_level3.simulate.scene import Scene, barycentric_mjd, segment_edges
from tso_level3.simulate.settings import Simulation

__all__ = ["file_name", "int_times", "metadata", "product_name", "root_name", "world_coordinates"]

_DAY = 86400.0
# V2, V3 [arcsec] of the detectors' fields to a few arcsec, and rotation of the pixel grid [deg].
_FIELDS = {"NRCALONG": (86.1, -493.2, 0.1), "MIRIMAGE": (-453.4, -373.5, 4.8)}
_NIRCAM_FIELD = (82.0, -494.0, -0.4)
_STEPS = (
    "assign_wcs", "dark_sub", "dq_init", "flat_field", "gain_scale", "group_scale", "jump",
    "linearity", "photom", "ramp_fit", "refpix", "saturation",
)  # fmt: skip


def root_name(sim: Simulation) -> str:
    """Return the root of the files' names, without segment and detector."""
    visit = f"jw{sim.program:05d}{sim.observation:03d}{sim.visit:03d}"
    return f"{visit}_04101_{sim.exposure:05d}"


def file_name(sim: Simulation, segment: int) -> str:
    """Return the name of a segment's file; ``segment`` counts from 1."""
    cut = f"-seg{segment:03d}" if sim.segments > 1 else ""
    return f"{root_name(sim)}{cut}_{sim.detector.lower()}_calints.fits"


def product_name(sim: Simulation) -> str:
    """Return the name of the level-3 product in the association."""
    optics = [part.lower() for part in (sim.pupil, sim.filter) if part != "N/A"]
    parts = "-".join([*optics, sim.subarray.lower()])
    instrument = sim.instrument.lower()
    return f"jw{sim.program:05d}-o{sim.observation:03d}_t001_{instrument}_{parts}"


def int_times(scene: Scene, segment: int, dtype: np.dtype) -> np.ndarray:
    """Make the rows of INT_TIMES for a segment's file.

    Parameters
    ----------
    scene : Scene
        The exposure.
    segment : int
        Segment, from 1.
    dtype : dtype
        The table's columns, in the order of the data model: number, then start, mid and end in
        MJD UTC, then in barycentric MJD TDB.

    Returns
    -------
    ndarray
        Structured, a row per integration of the segment or of the exposure.
    """
    sim = scene.simulation
    first, last = segment_edges(sim)[segment - 1 : segment + 1]
    if sim.int_times == "exposure":
        first, last = 0, sim.n_int
    start = sim.start_mjd + np.arange(first, last) * sim.cadence / _DAY
    length = sim.integration_time / _DAY
    utc = (start, start + length / 2, start + length)
    rows = np.zeros(last - first, dtype=dtype)
    number, *columns = dtype.names or ()
    rows[number] = np.arange(first, last) + 1
    for name, values in zip(columns[:3], utc):
        rows[name] = values
    for name, values in zip(columns[3:], utc):
        rows[name] = barycentric_mjd(values, sim.ra, sim.dec)
    return rows


def metadata(scene: Scene, segment: int) -> dict[str, Any]:
    """Make the keywords of a segment's file, as a tree below ``meta``."""
    sim = scene.simulation
    edges = segment_edges(sim)
    channel = {} if sim.channel == "N/A" else {"channel": sim.channel, "module": sim.module}
    pupil = {} if sim.pupil == "N/A" else {"pupil": sim.pupil}
    ny, nx = sim.shape
    return {
        "filename": file_name(sim, segment),
        "telescope": "JWST",
        "origin": "SIMULATED",
        "bunit_data": sim.unit,
        "bunit_err": sim.unit,
        "program": {"title": "Synthetic time series", "category": "GO"},
        "observation": _observation(sim),
        "visit": {"type": "PRIME_TARGETED_FIXED", "tsovisit": True, "status": "SUCCESSFUL"},
        "target": {
            "proposer_name": sim.target,
            "catalog_name": sim.target,
            "type": "FIXED",
            "ra": sim.ra,
            "dec": sim.dec,
            "source_type": "POINT",
        },
        "instrument": {
            "name": sim.instrument,
            "detector": sim.detector,
            "filter": sim.filter,
            **channel,
            **pupil,
        },
        "exposure": {
            **_exposure(sim),
            "segment_number": segment,
            "segment_total": sim.segments,
            "integration_start": int(edges[segment - 1]) + 1,
            "integration_end": int(edges[segment]),
        },
        "subarray": {
            "name": sim.subarray,
            "xstart": 1,
            "ystart": 1,
            "xsize": nx,
            "ysize": ny,
            "fastaxis": 1 if sim.instrument == "MIRI" else -1,
            "slowaxis": 2,
        },
        "photometry": {
            "conversion_megajanskys": sim.photmjsr,
            "conversion_microjanskys": sim.photmjsr * 1e12 * math.radians(1 / 3600) ** 2,
            "pixelarea_steradians": sim.pixel_area,
            "pixelarea_arcsecsq": sim.pixel_scale**2,
        },
        "cal_step": dict.fromkeys(_STEPS, "COMPLETE"),
        **_pointing(sim),
    }


def _observation(sim: Simulation) -> dict[str, Any]:
    """Make the numbers and dates of the observation."""
    ids = f"{sim.program:05d}{sim.observation:03d}{sim.visit:03d}"
    start = Time(sim.start_mjd, format="mjd", scale="utc").isot
    end = Time(sim.start_mjd + _duration(sim) / _DAY, format="mjd", scale="utc").isot
    return {
        "date": start[:10],
        "time": start[11:],
        "date_beg": start,
        "date_end": end,
        "obs_id": f"V{ids}001P0000000004101",
        "visit_id": ids,
        "program_number": f"{sim.program:05d}",
        "observation_number": f"{sim.observation:03d}",
        "visit_number": f"{sim.visit:03d}",
        "visit_group": "04",
        "sequence_id": "1",
        "activity_id": "01",
        "exposure_number": str(sim.exposure),
    }


def _duration(sim: Simulation) -> float:
    """Return the time from the exposure's start to its last integration's end [s]."""
    return sim.n_int * sim.cadence - sim.frame_time


def _exposure(sim: Simulation) -> dict[str, Any]:
    """Make the keywords of the exposure that all its segments share."""
    duration = _duration(sim)
    utc = sim.start_mjd + np.array([0, duration / 2, duration]) / _DAY
    tdb = barycentric_mjd(utc, sim.ra, sim.dec)
    times = {}
    for name, mjd, barycentric in zip(("start", "mid", "end"), utc, tdb):
        times[f"{name}_time"] = times[f"{name}_time_mjd"] = float(mjd)
        times[f"{name}_time_tdb"] = float(barycentric)
    return {
        **times,
        "type": sim.exp_type,
        "count": 1,
        "prime_parallel": "PRIME",
        "readpatt": sim.readpatt,
        "noutputs": 4 if sim.instrument == "MIRI" or sim.amplifiers == 4 else 1,
        "nints": sim.n_int,
        "ngroups": sim.ngroups,
        "nframes": 1,
        "groupgap": 0,
        "frame_time": sim.frame_time,
        "group_time": sim.frame_time,
        "integration_time": sim.integration_time,
        "exposure_time": sim.integration_time * sim.n_int,
        "effective_exposure_time": sim.integration_time * sim.n_int,
        "duration": duration,
        "elapsed_exposure_time": duration,
        "nresets_at_start": 1,
        "nresets_between_ints": 1,
    }


def _pointing(sim: Simulation) -> dict[str, Any]:
    """Make the keywords of the frame's place in the telescope's field and on the sky."""
    v2, v3, turn = _FIELDS.get(sim.detector, _NIRCAM_FIELD)
    x, y = sim.planned_position
    corners = np.array([(-0.5, -0.5), (sim.shape[1] - 0.5, -0.5)])
    corners = np.vstack([corners, corners[::-1] + [0, sim.shape[0]]])
    ra, dec = world_coordinates(sim)(*corners.T, with_bounding_box=False)
    polygon = " ".join(f"{value:.9f}" for pair in zip(ra, dec) for value in pair)
    return {
        "pointing": {"ra_v1": sim.ra, "dec_v1": sim.dec, "pa_v3": (sim.roll - turn) % 360},
        "aperture": {"name": f"{sim.detector}_{sim.subarray}", "position_angle": sim.roll},
        "velocity_aberration": {"scale_factor": 1.0},
        "coordinates": {"reference_frame": "ICRS"},
        "wcsinfo": {
            **_linear_wcs(sim),
            "siaf_xref_sci": x + 1,
            "siaf_yref_sci": y + 1,
            "v2_ref": v2,
            "v3_ref": v3,
            "vparity": -1,
            "v3yangle": turn,
            "ra_ref": sim.ra,
            "dec_ref": sim.dec,
            "roll_ref": (sim.roll - turn) % 360,
            "s_region": f"POLYGON ICRS  {polygon}",
        },
    }


def _linear_wcs(sim: Simulation) -> dict[str, Any]:
    """Make the linear world coordinates in FITS keywords; the third axis counts integrations."""
    x, y = sim.planned_position
    scale = sim.pixel_scale / 3600
    cos, sin = math.cos(math.radians(sim.roll)), math.sin(math.radians(sim.roll))
    values: dict[str, Any] = {"wcsaxes": 3}
    axes = ((x + 1, sim.ra, "RA---TAN", "deg", scale), (y + 1, sim.dec, "DEC--TAN", "deg", scale))
    for axis, numbers in enumerate((*axes, (0.0, 0.0, "", "", 1.0)), start=1):
        for name, value in zip(("crpix", "crval", "ctype", "cunit", "cdelt"), numbers):
            values[f"{name}{axis}"] = value
    matrix = ((-cos, sin, 0.0), (sin, cos, 0.0), (0.0, 0.0, 1.0))
    for i, row in enumerate(matrix, start=1):
        for j, value in enumerate(row, start=1):
            values[f"pc{i}_{j}"] = value
    return values


def world_coordinates(sim: Simulation) -> Any:
    """Make the transform from pixels to ICRS by a tangential projection.

    Parameters
    ----------
    sim : Simulation
        The settings; the target is at the planned position.

    Returns
    -------
    gwcs.WCS
        From 0-based (x, y) [px] to right ascension and declination [deg], with an inverse.
    """
    import gwcs
    from astropy import coordinates, units
    from astropy.modeling import models
    from gwcs import coordinate_frames

    x, y = sim.planned_position
    angle = math.radians(sim.roll)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = models.AffineTransformation2D(matrix=np.array([[-cos, sin], [sin, cos]]))
    turn.inverse = models.AffineTransformation2D(matrix=np.array([[-cos, sin], [sin, cos]]))
    scale = models.Scale(sim.pixel_scale / 3600) & models.Scale(sim.pixel_scale / 3600)
    sky = models.Pix2Sky_TAN() | models.RotateNative2Celestial(sim.ra, sim.dec, 180.0)
    transform = models.Shift(-x) & models.Shift(-y) | scale | turn | sky
    pixels = coordinate_frames.Frame2D(
        name="detector", axes_order=(0, 1), unit=(units.pix, units.pix)
    )
    world = coordinate_frames.CelestialFrame(
        name="world", reference_frame=coordinates.ICRS(), unit=(units.deg, units.deg)
    )
    wcs = gwcs.WCS([(pixels, transform), (world, None)])
    ny, nx = sim.shape
    wcs.bounding_box = ((-0.5, nx - 0.5), (-0.5, ny - 0.5))
    return wcs
