"""Results of a run, made up, for the tests of what is done with them."""

import dataclasses

import numpy as np

from tso_level3.columns import APERTURES, EVENTS, GRID, LIGHT_CURVE
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Picture
from tso_level3.flags import Flag
from tso_level3.product.record import (
    ApertureCenter,
    CenterScatter,
    NoiseAveraging,
    Result,
    RunRecord,
)

RADII = np.array([2.0, 3.0, 4.5, 6.0])
FLUX = 2.5e-3
NOISE = 400e-6
DEPTH = 0.012


def transit(time):
    """Relative flux of a box-shaped transit with the middle third of the time inside."""
    inside = np.abs(time - time.mean()) < (time[-1] - time[0]) / 6
    return 1.0 - DEPTH * inside


def metadata():
    """The metadata tree of a calints file, the part that matters."""
    return {
        "meta": {
            "filename": "jw01366002001_04103_00001-seg001_nrca3_calints.fits",
            "model_type": "CubeModel",
            "telescope": "JWST",
            "instrument": {
                "name": "NIRCAM",
                "detector": "NRCA3",
                "channel": "SHORT",
                "filter": "F210M",
                "pupil": "WLP8",
                "module": "A",
            },
            "target": {"catalog_name": "WASP-39", "ra": 217.326, "dec": -3.444},
            "subarray": {"name": "SUB64P", "xsize": 64, "ysize": 64},
            "exposure": {"type": "NRC_TSIMAGE", "integration_time": 6.2, "nints": 200},
            "photometry": {"pixelarea_steradians": 2.3e-14, "conversion_megajanskys": 3.1},
            "wcsinfo": {"siaf_xref_sci": 32.5, "siaf_yref_sci": 31.5, "v2_ref": 120.0},
            "bunit_data": "MJy/sr",
            "cal_step": {"photom": "COMPLETE", "flat_field": "COMPLETE"},
        },
        "int_times": np.zeros(3),
    }


def light_curve(n_int, rng):
    """Columns of a light curve with a transit, jitter and white noise."""
    time = 60123.4 + np.arange(n_int) * 12.0 / 86400.0
    jitter = rng.normal(0.0, 0.01, (2, n_int))
    relative = transit(time) * (1 + 0.05 * jitter[0]) + rng.normal(0.0, NOISE, n_int)
    growth = 1.0 - np.exp(-RADII / 1.5)
    columns = {
        item.name: np.full(n_int, 0.5)
        if item.dtype.startswith("f")
        else np.zeros(n_int, item.dtype)
        for item in LIGHT_CURVE
    }
    columns |= {
        "integration": np.arange(1, n_int + 1),
        "segment": 1 + np.arange(n_int) * 2 // n_int,
        "time": time,
        "bmjd_tdb": time,
        "mjd_utc": time - 0.0031,
        "background": 2e-7 * (1 + 0.01 * rng.normal(size=n_int)),
        "background_err": np.full(n_int, 2e-9),
        "background_area": np.full(n_int, 1500.0),
        "aperture_flux": FLUX * relative[:, None] * growth,
        "aperture_flux_err": np.broadcast_to(FLUX * NOISE * growth, (n_int, len(RADII))),
        "aperture_replaced": np.zeros((n_int, len(RADII))),
        "components": rng.normal(size=(n_int, 3)),
        "psf_flux": FLUX * relative,
        "psf_flux_err": np.full(n_int, FLUX * NOISE),
    }
    for axis, name in enumerate("xy"):
        for source in ("cc", "gauss", "psf"):
            columns[f"{source}_{name}"] = 31.5 - axis + jitter[axis]
        columns[f"aperture_{name}"] = np.full(n_int, 31.5 - axis)
        columns[f"gauss_sigma_{name}"] = 0.95 + 0.002 * rng.normal(size=n_int)
    flags = np.zeros(n_int, "u4")
    flags[5:6] = Flag.OUTLIER | Flag.FILLED
    flags[60:61] = Flag.EVENT
    columns["flags"] = flags
    return columns


def noise_table(columns, radii, *, chosen, annuli=((16.0, 26.0),)):
    """A table of radii and annuli, and of the fit of the template where there are several."""
    rows = [("aperture", radius, *annulus) for annulus in annuli for radius in radii]
    if columns is GRID:
        rows.append(("psf", np.nan, *annuli[0]))
    table = {item.name: np.full(len(rows), NOISE) for item in columns}
    for k, name in enumerate(("kind", "radius", "radius_inner", "radius_outer")):
        table[name] = np.array([row[k] for row in rows])
    if "area" in table:
        table["area"] = np.pi * np.array([row[1] for row in rows]) ** 2
    table["flux"] = np.full(len(rows), FLUX)
    table["rejected"] = np.full(len(rows), "")
    table["ratio"] = table["red_noise"] = np.full(len(rows), 1.04)
    table["rank"] = np.arange(1, len(rows) + 1)
    table["chosen"] = np.arange(len(rows)) == chosen
    return table


def make_result(n_int=200, *, seed=3, quoted="aperture", **changes):
    """What a run of a focused exposure might find, with noise of `NOISE`."""
    rng = np.random.default_rng(seed)
    fitted = quoted == "psf"
    annuli = ((16.0, 26.0), (20.0, 30.0))
    y, x = np.mgrid[:21, :21]
    star = np.exp(-0.5 * ((x - 10.2) ** 2 + (y - 9.8) ** 2) / 0.95**2)
    result = Result(
        light_curve=light_curve(n_int, rng),
        apertures=noise_table(APERTURES, RADII, chosen=-1 if fitted else 1),
        grid=noise_table(GRID, RADII, chosen=8 if fitted else 1, annuli=annuli),
        events={
            item.name: np.array([value], item.dtype)
            for item, value in zip(EVENTS, (61, "tilt", 7.5, -3e-4, 5e-5, 60123.408))
        },
        radii=RADII,
        unit="Jy",
        template=Picture(star, 10.2, 9.8, origin=(21, 20)),
        kernel=Picture(star[::2, ::2], 5.0, 5.0, oversample=4),
        components=rng.normal(size=(3, 21, 21)),
        meta=metadata(),
        record=RunRecord(
            settings=Settings(radii=(2, 3, 4.5, 6), radius=3.0).as_dict(),
            inputs=[{"name": "a_calints.fits", "size": np.int64(2880), "frames": (0, n_int)}],
            time_scale="BMJD_TDB",
            kernel={"kind": "jwst", "oversample": np.int64(4)},
            aperture_center=ApertureCenter("gauss"),
            bound=CenterScatter(0.012, 0.01, 1.2, 0.012, 0.01, 1.2),
            averaging=NoiseAveraging((1, 2), (NOISE, 0.8 * NOISE), (NOISE, 0.7 * NOISE), 1.1),
            notes=("Jy of an aperture is not aperture-corrected.",),
        ),
        filenames=tuple(f"seg{1 + 2 * k // n_int:03d}_calints.fits" for k in range(n_int)),
    )
    empty = {item.name: np.zeros(0, item.dtype) for item in EVENTS}
    if changes.pop("no_events", False):
        changes["events"] = empty
    return dataclasses.replace(result, **changes)
