"""Annuli that the frame cuts."""

import numpy as np
import pytest

from tso_level3.config.modes import mode_of
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Optics
from tso_level3.planning.geometry import geometry_of


def _count(annulus, x, y, shape):
    rows, columns = np.indices(shape)
    distance = np.hypot(columns - x, rows - y)
    return int(((distance >= annulus.inner) & (distance < annulus.outer)).sum())


def _geometry(optics, shape, x, y, fwhm=2.3, **settings):
    return geometry_of(Settings(**settings), mode_of(optics, fwhm, shape), x, y, shape)


LENS = Optics("NIRCAM", "NRCA3", "F210M", "WLP8")
FOCUS = Optics("NIRCAM", "NRCA3", "F210M", "CLEAR")


def test_annulus_of_a_weak_lens_reaches_into_the_corners_of_a_small_frame():
    shape = (160, 160)
    first = _geometry(LENS, shape, 79.7, 79.2).annuli[0]
    assert first.inner == 75.0 and 105 < first.outer < 115
    # to 95 pixels there are 6,100; the corners have the rest of what lies beyond 75
    rows, columns = np.indices(shape)
    assert _count(first, 79.7, 79.2, shape) == (np.hypot(columns - 79.7, rows - 79.2) >= 75).sum()


def test_annulus_that_the_frame_holds_stays_what_it_is():
    assert _geometry(LENS, (400, 400), 199.5, 199.5).annuli[0].outer == 95.0
    assert _geometry(FOCUS, (64, 64), 31.7, 31.2).annuli[0].outer == 26.0


def test_annulus_at_the_edge_grows_to_the_pixels_it_would_have_and_no_farther():
    first = _geometry(FOCUS, (64, 64), 12.0, 31.0).annuli[0]
    whole = np.pi * (26.0**2 - 16.0**2)
    assert 26 < first.outer <= 39
    assert abs(_count(first, 12.0, 31.0, (64, 64)) - whole) < 30


def test_annulus_that_is_asked_for_is_not_changed():
    found = _geometry(LENS, (160, 160), 79.7, 79.2, radius_inner=75.0, radius_outer=95.0)
    assert (found.annuli[0].inner, found.annuli[0].outer) == (75.0, 95.0)


@pytest.mark.parametrize("x, y", [(31.5, 31.5), (27.5, 31.5), (36.0, 35.5), (22.0, 40.0)])
def test_annulus_that_would_shrink_into_the_star_is_none(x, y):
    # used to be an error a few pixels off the middle: all radii overlapped an annulus in the star
    found = _geometry(LENS, (64, 64), x, y)
    assert found.annuli == ()
    assert found.notes == ("no annulus fits into the frame; no background is subtracted",)
    assert found.radii.min() == 50.0


def test_annulus_shrinks_as_far_as_the_smallest_aperture():
    found = _geometry(FOCUS, (31, 31), 15.0, 15.0)
    assert found.annuli and all(annulus.inner >= found.radii.min() for annulus in found.annuli)
    assert found.annuli[0].inner < 16.0
