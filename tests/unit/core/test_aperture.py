"""Exact circles, against photutils."""

import numpy as np
import pytest
from photutils.aperture import CircularAperture

from tso_level3.core.aperture import MovingApertures, overlap, overlap_pixels

RADII = np.array([0.3, 1.0, 2.5, 3.0, 7.3, 12.0, 31.7])


@pytest.mark.parametrize("center", [(30.0, 30.0), (31.37, 29.81), (2.23, 55.9), (-1.3, 20.5)])
def test_fixed_circles_agree_with_photutils_also_over_the_edge(center):
    rng = np.random.default_rng(3)
    image = rng.normal(100.0, 10.0, (60, 64))
    weights = overlap(*center, RADII, np.arange(64), np.arange(60))
    for weight, radius in zip(weights, RADII):
        exact = CircularAperture(center, radius).do_photometry(image, method="exact")[0][0]
        exact = np.nan_to_num(exact)  # photutils gives NaN where nothing overlaps
        assert np.sum(weight * image) == pytest.approx(exact, rel=1e-12, abs=1e-10)


def test_area_inside_is_that_of_the_circle():
    weights = overlap(31.2, 30.7, RADII[:5], np.arange(64), np.arange(64))
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), np.pi * RADII[:5] ** 2, rtol=1e-13)


def test_a_list_of_pixels_has_the_overlap_of_the_grid():
    rows, columns = np.mgrid[5:50, 3:60].reshape(2, -1)
    order = np.random.default_rng(0).permutation(len(rows))[:900]
    listed = overlap_pixels(30.4, 28.9, RADII, columns[order], rows[order])
    full = overlap(30.4, 28.9, RADII, np.arange(64), np.arange(64))
    np.testing.assert_allclose(listed, full[:, rows[order], columns[order]], rtol=0, atol=1e-13)


@pytest.mark.parametrize("shift", [0.02, 1.5])
def test_moving_circles_agree_with_photutils_frame_by_frame(shift):
    rng = np.random.default_rng(8)
    frames = rng.normal(50.0, 5.0, (23, 60, 64))
    x = 31.2 + shift * rng.normal(size=23)
    y = 28.7 + shift * rng.normal(size=23)
    rows, columns = np.mgrid[0:60, 0:64].reshape(2, -1)
    variance = rng.uniform(1.0, 2.0, 60 * 64)
    moving = MovingApertures.of(columns, rows, RADII)
    sums, areas, (noise,) = moving.sums(frames.reshape(23, -1), x, y, squared=variance[None])
    for i in range(23):
        full = overlap(x[i], y[i], RADII, np.arange(64), np.arange(60))
        np.testing.assert_allclose(
            noise[i], np.sum(full**2 * variance.reshape(60, 64), (1, 2)), rtol=1e-10
        )
        for k, radius in enumerate(RADII):
            circle = CircularAperture((x[i], y[i]), radius)
            exact = circle.do_photometry(frames[i], method="exact")[0][0]
            assert sums[i, k] == pytest.approx(exact, rel=1e-12)
            assert areas[i, k] == pytest.approx(full[k].sum(), rel=1e-12)


def test_moving_sums_do_not_depend_on_which_frames_come_together():
    rng = np.random.default_rng(1)
    frames = rng.normal(50.0, 5.0, (40, 64 * 64))
    x, y = 30 + rng.normal(0, 0.4, 40), 31 + rng.normal(0, 0.4, 40)
    rows, columns = np.mgrid[0:64, 0:64].reshape(2, -1)
    moving = MovingApertures.of(columns, rows, RADII)
    together = moving.sums(frames, x, y).total
    alone = np.concatenate(
        [moving.sums(frames[i : i + 1], x[i : i + 1], y[i : i + 1]).total for i in range(40)]
    )
    np.testing.assert_allclose(together, alone, rtol=1e-12)
