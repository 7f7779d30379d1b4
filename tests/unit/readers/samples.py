"""Small good inputs of every kind, with known content."""

import functools
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

SHAPE = (6, 12, 10)
START = 60310.25
LENGTH, FRAME = 40.0, 2.0  # integration and frame time [s]
CADENCE = LENGTH + FRAME
DAY = 86400.0


def frames(shape=SHAPE, seed=1):
    """A cube in which every pixel differs, its errors and its data quality."""
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 5, shape).astype(np.float32)
    errors = rng.uniform(1, 2, shape).astype(np.float32)
    dq = np.zeros(shape, np.uint32)
    dq[0, 1, 2] = 1
    dq[-1, -1, -1] = 2**31 + 5
    return values, errors, dq


def mid_times(first, count):
    """MJD UTC of integrations by the formula of the header."""
    k = first - 1 + np.arange(count)
    return START + (k * CADENCE + LENGTH / 2) / DAY


def shift(utc):
    """A barycentric correction that changes with time [d]."""
    return (200.0 + 30.0 * (utc - START)) / DAY


def table_of(first, count, dtype):
    """Rows of INT_TIMES."""
    rows = np.zeros(count, dtype=dtype)
    rows["integration_number"] = first + np.arange(count)
    for name, offset in (("start", -LENGTH / 2), ("mid", 0.0), ("end", LENGTH / 2)):
        utc = mid_times(first, count) + offset / DAY
        rows[f"int_{name}_MJD_UTC"] = utc
        rows[f"int_{name}_BJD_TDB"] = utc + shift(utc)
    return rows


def cube_model(first=1, total=12, shape=SHAPE, seed=1, segment=1):
    """An open CubeModel of a NIRCam time series."""
    from stdatamodels.jwst.datamodels import CubeModel

    values, errors, dq = frames(shape, seed)
    model = CubeModel(data=values, err=errors, dq=dq)
    model.var_poisson = errors**2 / 2
    model.var_rnoise = errors**2 / 4
    model.var_flat = errors**2 / 4
    model.int_times = table_of(first, shape[0], model.get_dtype("int_times"))
    meta = model.meta
    meta.telescope = "JWST"
    meta.filename = f"jw00001001001_04101_00001-seg{segment:03d}_nrca3_calints.fits"
    meta.instrument.name = "NIRCAM"
    meta.instrument.detector = "NRCA3"
    meta.instrument.channel = "SHORT"
    meta.instrument.filter = "F210M"
    meta.instrument.pupil = "CLEAR"
    meta.subarray.name = "SUB64P"
    meta.subarray.xstart, meta.subarray.ystart = 3, 2
    meta.observation.visit_id = "00001001001"
    meta.observation.exposure_number = "1"
    meta.observation.date, meta.observation.time = "2024-01-01", "06:00:00.000"
    exposure = meta.exposure
    exposure.type = "NRC_TSIMAGE"
    exposure.start_time = START
    span = (total * CADENCE - FRAME) / DAY
    exposure.mid_time, exposure.end_time = START + span / 2, START + span
    exposure.nints = total
    exposure.integration_start, exposure.integration_end = first, first + shape[0] - 1
    exposure.integration_time, exposure.frame_time = LENGTH, FRAME
    exposure.nresets_between_ints = 1
    exposure.segment_number, exposure.segment_total = segment, 2
    meta.bunit_data = meta.bunit_err = "MJy/sr"
    meta.photometry.pixelarea_steradians = 2.3e-14
    meta.photometry.pixelarea_arcsecsq = 0.000978
    meta.wcsinfo.siaf_xref_sci, meta.wcsinfo.siaf_yref_sci = 5.5, 6.25
    return model


def write_cube(folder, first=1, segment=1, **changes):
    """A calints file; ``changes`` are set in its model by their path with underscores for dots."""
    name, content = _cube_file(first, segment, tuple(changes.items()))
    path = folder / name
    path.write_bytes(content)
    return path


@functools.cache
def _cube_file(first, segment, changes):
    """Saving a data model takes half a second; the same file is wanted by many tests."""
    model = cube_model(first=first, segment=segment, seed=segment)
    for place, value in changes:
        model[place.replace("__", ".")] = value
    name = model.meta.filename
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/{name}")
        model.close()
        return name, Path(folder, name).read_bytes()


def write_plain(folder, name="frame_1.fits", *, image=None, errors=None, **cards):
    """A plain FITS image in the primary HDU."""
    image = frames()[0][0] if image is None else image
    hdus = fits.HDUList([fits.PrimaryHDU(image)])
    hdus[0].header["EXPTIME"] = 30.0
    for key, value in cards.items():
        hdus[0].header[key.replace("_", "-")] = value
    if errors is not None:
        hdus.append(fits.ImageHDU(errors, name="ERR"))
    path = folder / name
    hdus.writeto(path, overwrite=True)
    return path


def write_scaled(folder, name="scaled.fits"):
    """A cube of 16-bit numbers with a scale, an offset and blank pixels."""
    stored = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    stored[0, 0, 0] = -999
    hdu = fits.PrimaryHDU(stored)
    path = folder / name
    hdu.writeto(path, overwrite=True)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header["BSCALE"] = 0.5
        hdus[0].header["BZERO"] = 32.0
        hdus[0].header["BLANK"] = -999
    return path


def write_tiles(folder, name="frame.fits.fz", *, image=None):
    """A tile-compressed image."""
    image = frames()[0] if image is None else image
    tiles = fits.CompImageHDU(image, name="SCI", compression_type="GZIP_1", quantize_level=0)
    hdus = fits.HDUList([fits.PrimaryHDU(), tiles])
    path = folder / name
    hdus.writeto(path, overwrite=True)
    return path


def ncdhas_cards(number):
    """Header of ncdhas."""
    return {
        "SCA_ID": 485,
        "NGROUP": 4,
        "NFRAME": 1,
        "TFRAME": 2.0,
        "TGROUP": 10.0,
        "INTTIME": 40.0,
        "DATE-OBS": "2015-11-20",
        "TIME-OBS": "23:59:30.0",
        "ON_NINT": number,
        "COLCORNR": 5,
        "ROWCORNR": 7,
        "FILTER": "F322W2",
    }


def write_slope(folder, number=1, *, planes=2, ending=".slp.fits"):
    """A slope image of ncdhas."""
    values, errors, _ = frames(seed=number)
    data = {1: values[0], 2: np.stack([values[0], errors[0]])}.get(planes, values[:planes])
    hdu = fits.PrimaryHDU(data)
    for key, value in ncdhas_cards(number).items():
        hdu.header[key] = value
    path = folder / f"NRCN815_485_S_2015_I{number:03d}{ending}"
    hdu.writeto(path, overwrite=True)
    return path
