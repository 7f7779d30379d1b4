import concurrent.futures
import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tests.unit.readers import samples
from tso_level3.datatypes import Box
from tso_level3.readers.arrays import BAD
from tso_level3.readers.fits.raw_frames import PlainFits, TileFits
from tso_level3.readers.open import open_exposure

BOXES = [Box(0, 0, 10, 12), Box(3, 2, 4, 5), Box(9, 11, 1, 1), Box(0, 4, 10, 1)]


def open_files():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def load(path, box, start=0, stop=6):
    return open_exposure(path).segments[0].source.load(start, stop, box)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize(("start", "stop"), [(0, 6), (2, 3), (5, 6)])
def test_any_box_and_run(box, start, stop, tmp_path):
    values, errors, dq = samples.frames()
    pixels = load(samples.write_cube(tmp_path), box, start, stop)
    cut = (slice(start, stop), *box.slices)
    np.testing.assert_array_equal(pixels.values, values[cut])
    np.testing.assert_array_equal(pixels.errors, errors[cut])
    np.testing.assert_array_equal(pixels.dq, dq[cut])
    assert pixels.values.flags.c_contiguous


@pytest.mark.parametrize("box", [Box(0, 0, 700, 90), Box(100, 20, 50, 40), Box(3, 0, 600, 90)])
def test_frames_larger_than_the_scratch(box, tmp_path):
    # 40 frames of 252 kB: several to a read, whole or rows of the box alone.
    values = np.random.default_rng(5).normal(size=(40, 90, 700)).astype(np.float32)
    path = samples.write_plain(tmp_path, image=values)
    pixels = load(path, box, 3, 38)
    np.testing.assert_array_equal(pixels.values, values[(slice(3, 38), *box.slices)])


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8", "u2", "u4"])
def test_every_type(dtype, tmp_path):
    rng = np.random.default_rng(3)
    stored = (rng.normal(0, 1, samples.SHAPE) * 50 + 120).clip(0).astype(dtype)
    pixels = load(samples.write_plain(tmp_path, image=stored), BOXES[1])
    expected = stored[(slice(None), *BOXES[1].slices)]
    np.testing.assert_array_equal(pixels.values, expected.astype(float))
    assert pixels.values.dtype.kind == "f" and pixels.values.dtype.isnative
    if np.dtype(dtype).itemsize > 2 and np.dtype(dtype).kind != "f":
        assert pixels.values.dtype == np.float64  # every digit is kept


def test_scaled_numbers(tmp_path):
    path = samples.write_scaled(tmp_path)
    with fits.open(path) as hdus:
        expected = hdus[0].data.astype(float)
    found = load(path, BOXES[0]).values
    assert np.isnan(found[0, 0, 0]) and np.isnan(expected[0, 0, 0])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_negative_scale(tmp_path):
    path = samples.write_scaled(tmp_path)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header["BSCALE"] = -0.5
    found = load(path, BOXES[0]).values
    assert found[0, 0, 2] == 31.0


@pytest.mark.parametrize("planes", ["image", "cube"])
def test_packed(planes, tmp_path):
    values, errors, _ = samples.frames()
    if planes == "image":
        values, errors = values[:1], errors[:1]
    path = samples.write_plain(tmp_path, image=np.squeeze(values), errors=np.squeeze(errors))
    packed = tmp_path / "packed.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    exposure = open_exposure(packed)
    source = exposure.segments[0].source
    assert isinstance(source, PlainFits)
    cut = (slice(None), *BOXES[1].slices)
    for copy in (source, pickle.loads(pickle.dumps(source))):
        pixels = copy.load(0, len(values), BOXES[1])
        np.testing.assert_array_equal(pixels.values, values[cut])
        np.testing.assert_array_equal(pixels.errors, errors[cut])
    assert exposure.inputs[0]["name"] == "packed.fits.gz"


def test_tiles(tmp_path):
    values, _, _ = samples.frames()
    source = open_exposure(samples.write_tiles(tmp_path)).segments[0].source
    assert isinstance(source, TileFits)
    found = source.load(1, 4, BOXES[1]).values
    np.testing.assert_array_equal(found, values[(slice(1, 4), *BOXES[1].slices)])
    source = open_exposure(samples.write_tiles(tmp_path, image=values[2])).segments[0].source
    np.testing.assert_array_equal(source.load(0, 1, BOXES[0]).values[0], values[2])


def test_mask_of_one_frame_is_for_all(tmp_path):
    values, _, dq = samples.frames()
    path = tmp_path / "cube.fits"
    mask = fits.ImageHDU((dq[0] > 0).astype(np.uint8), name="MASK")
    fits.HDUList([fits.PrimaryHDU(values), mask]).writeto(path)
    found = load(path, BOXES[0]).dq
    assert np.unique(found).tolist() == [0, BAD]
    np.testing.assert_array_equal(found > 0, np.broadcast_to(dq[0] > 0, dq.shape))


def test_memory_is_used_again_and_only_by_the_same_source(tmp_path):
    one = open_exposure(samples.write_cube(tmp_path)).segments[0].source
    two = open_exposure(samples.write_plain(tmp_path, image=samples.frames(seed=7)[0])).segments[0]
    first = one.load(0, 4, BOXES[0]).values
    kept = first.copy()
    two.source.load(0, 4, BOXES[0])
    np.testing.assert_array_equal(first, kept)
    again = one.load(1, 5, BOXES[0]).values
    assert np.shares_memory(first, again)


def test_threads_do_not_share_memory(tmp_path):
    values, errors, _ = samples.frames()
    source = open_exposure(samples.write_cube(tmp_path)).segments[0].source

    def work(number):
        start = number % 5
        pixels = source.load(start, start + 2, BOXES[1])
        cut = (slice(start, start + 2), *BOXES[1].slices)
        return np.array_equal(pixels.values, values[cut]) and np.array_equal(
            pixels.errors, errors[cut]
        )

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(400)))


def test_sources_travel_without_open_files_or_memory(tmp_path):
    source = open_exposure(samples.write_cube(tmp_path)).segments[0].source
    source.load(0, 6, BOXES[0])
    sent = pickle.dumps(source)
    assert len(sent) < 3000
    np.testing.assert_array_equal(
        pickle.loads(sent).load(0, 6, BOXES[0]).values, samples.frames()[0]
    )


def test_many_files_keep_none_open(tmp_path):
    values, _, _ = samples.frames()
    names = [
        samples.write_plain(tmp_path, f"f{k}.fits", image=values[k % 6] + k) for k in range(40)
    ]
    before = open_files()
    exposure = open_exposure(names)
    assert len(exposure.segments) == 1
    found = exposure.segments[0].source.load(5, 35, BOXES[1]).values
    expected = [values[k % 6][BOXES[1].slices] + k for k in range(5, 35)]
    np.testing.assert_array_equal(found, expected)
    after = open_files()
    assert after <= before
