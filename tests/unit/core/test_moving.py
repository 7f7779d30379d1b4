"""Apertures that follow a star which moves by pixels."""

import dataclasses

import numpy as np
import pytest
from photutils.aperture import CircularAperture

import tso_level3
from tests.skies import gaussian, night
from tso_level3 import Flag
from tso_level3.config.settings import Settings
from tso_level3.core.measure import measure
from tso_level3.flags import DQ_BITS
from tso_level3.planning.plan_exposure import first_look
from tso_level3.readers.open import open_exposure

SHAPE = (64, 64)
NARROW, WIDE = gaussian(1.5), gaussian(6.0)
RADIUS = 14.0


def winged(x, y, shape):
    return 0.8 * NARROW(x, y, shape) + 0.2 * WIDE(x, y, shape)


def inside(x, y, radius):
    """(64, 64): part of each pixel in a circle."""
    return CircularAperture((x, y), radius).to_mask(method="exact").to_image(SHAPE)


def exposure_of(made, dq=None, **settings):
    settings = Settings(
        unit="electron", position=(31.6, 31.3), subframe=21, moving_centroid=True,
        choose_aperture=False, **settings,
    )  # fmt: skip
    exposure = open_exposure(made.data, settings, errors=made.errors, times=made.times)
    if dq is not None:
        (segment,) = exposure.segments
        source = dataclasses.replace(segment.source, dq=dq)
        exposure = dataclasses.replace(
            exposure, segments=(dataclasses.replace(segment, source=source),)
        )
    return exposure, settings


def measured(made, dq=None, *, plan=None, **settings):
    exposure, settings = exposure_of(made, dq, **settings)
    if plan is None:
        plan, _ = first_look(exposure, settings)
    (segment,) = exposure.segments
    return plan, measure(segment.source.load(0, exposure.n_int, plan.layout.box), plan, 1.0)


def test_a_drift_of_pixels_loses_no_light():
    # used to: the apertures left the pixels that were read, 0.24 % of the light lost at the ends
    made = night(winged, 2e6, 200.0, n=60, depth=0.0, drift=8.0, seed=2)
    product = tso_level3.measure(
        made.data, errors=made.errors, times=made.times, unit="electron", position=(31.6, 31.3),
        subframe=21, radii=[RADIUS], radius_inner=22.0, radius_outer=28.0, moving_centroid=True,
    )  # fmt: skip
    truth = [
        2e6 * (inside(x, y, RADIUS) * winged(x, y, SHAPE)).sum()
        for x, y in zip(made.x, made.y, strict=True)
    ]
    ratio = product.light_curve["aperture_flux"][:, 0] / truth
    ends = np.concatenate([ratio[:12], ratio[-12:]])
    # The standard error of the difference is 0.02 %.
    assert ends.mean() == pytest.approx(ratio[20:40].mean(), abs=6e-4)
    assert not (product.light_curve["flags"] & Flag.APERTURE_CUT).any()


def test_a_frame_that_leaves_the_pixels_is_flagged():
    # used to: no flag, and only the place of the mean image was looked at
    made = night(winged, 2e6, 200.0, n=300, depth=0.0, seed=3)
    how = {"radii": (RADIUS,), "radius_inner": 22.0, "radius_outer": 28.0}
    plan, found = measured(made, **how)
    assert not (found.flags & Flag.APERTURE_CUT).any()
    far = night(winged, 2e6, 200.0, n=4, depth=0.0, at=(36.6, 31.3), seed=4)
    _, found = measured(far, plan=plan, **how)
    assert ((found.flags & Flag.APERTURE_CUT) > 0).all()
    assert (found.areas[:, 0] < 0.999 * np.pi * RADIUS**2).all()


def dead_pixel(made, x, y):
    dq = np.zeros(made.data.shape, np.uint32)
    dq[:, y, x] = DQ_BITS["DO_NOT_USE"]
    made.data[:, y, x] = 1e6
    return dq


def test_the_area_without_a_dead_pixel_is_that_of_the_moved_circle():
    # used to: the overlap of the circle at rest
    made = night(NARROW, 2e6, 200.0, n=60, depth=0.0, drift=4.0, seed=5)
    dq = dead_pixel(made, 36, 31)
    _, found = measured(made, dq, radii=(5.0,), fill=False, outlier_sigma=0.0)
    lost = np.pi * 25 - found.areas[:, 0]
    expected = [inside(x, y, 5.0)[31, 36] for x, y in zip(made.x, made.y, strict=True)]
    assert np.ptp(expected) == pytest.approx(1.0)
    np.testing.assert_allclose(lost, expected, rtol=0, atol=0.02)
    touched = (found.flags & Flag.MISSING_IN_APERTURE) > 0
    sure = np.abs(np.array(expected) - 0.02) > 0.02
    np.testing.assert_array_equal(touched[sure], (np.array(expected) > 0.02)[sure])


def test_errors_and_filled_light_beside_a_dead_pixel_follow_the_star():
    # used to: covariance and filled light of the circle and the template at rest
    made = night(NARROW, 1e5, 100.0, n=600, depth=0.0, drift=3.0, jitter=0.02, seed=6)
    dq = dead_pixel(made, 32, 31)
    _, found = measured(made, dq, radii=(4.0,), outlier_sigma=0.0)
    share = np.array([NARROW(x, y, SHAPE)[31, 32] for x, y in zip(made.x, made.y, strict=True)])
    np.testing.assert_allclose(found.replaced[:, 0] / 1e5, share, rtol=0, atol=0.05 * share.max())
    truth = [
        1e5 * (inside(x, y, 4.0) * NARROW(x, y, SHAPE)).sum()
        for x, y in zip(made.x, made.y, strict=True)
    ]
    flux = found.sums[:, 0] - found.background[:, 0] * found.areas[:, 0]
    error = np.sqrt(found.variance[:, 0] + (found.background_err[:, 0] * found.areas[:, 0]) ** 2)
    pull = (flux - truth) / error
    for third in np.split(pull, 3):
        # Three standard errors of the scatter of 200 values, and 0.05 for the motion.
        assert third.std() == pytest.approx(1.0, abs=0.05 + 3 / np.sqrt(400))


def test_row_noise_that_is_left_is_that_of_the_moved_circle():
    # used to: the variance of the circle at rest, whatever the frame
    made = night(NARROW, 2e6, 200.0, n=60, depth=0.0, drift=6.0, seed=7)
    made.data[:] += 30.0 * np.random.default_rng(8).standard_normal((60, 64, 1))
    plan, found = measured(made, radii=(5.0,), flicker="rows")
    left, group = plan.rows.left, plan.rows.group
    columns, rows = plan.layout.columns, plan.layout.rows
    noise = plan.noise.star * found.psf[:, 2, None] / plan.template.flux + plan.noise.rest
    for k in (0, 30, 59):
        circle = inside(*found.center[k], 5.0)[rows, columns]
        total = np.bincount(group, circle, len(left))
        expected = circle**2 @ noise[k] + total @ left @ total
        assert found.variance[k, 0] == pytest.approx(expected, rel=0.01)
