"""Radii that are asked for are measured, or it is said why not."""

import logging
import re

import numpy as np
import pytest

from tso_level3 import measure
from tso_level3.config.modes import mode_of
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Optics
from tso_level3.planning.geometry import geometry_of

FOCUSED = Optics(instrument="NIRCAM", filter="F210M", pupil="CLEAR")
LENS = Optics(instrument="NIRCAM", filter="F210M", pupil="WLP8")


def _geometry(optics=FOCUSED, shape=(64, 64), **settings):
    centre = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    return geometry_of(Settings(**settings), mode_of(optics, 2.3, shape), *centre, shape)


def test_a_radius_that_holds_the_frame_is_left_out_and_named(caplog):
    # used to take the background from all others
    with caplog.at_level(logging.WARNING, logger="tso_level3"):
        found = _geometry(radii=[3, 100])
    assert list(found.radii) == [3.0] and len(found.annuli) >= 1
    assert "radii: 100 left out: from 45.3" in caplog.text


def test_a_radius_without_room_for_an_annulus_is_left_out_and_named(caplog):
    with caplog.at_level(logging.WARNING, logger="tso_level3"):
        found = _geometry(radii=[3, 44])
    assert list(found.radii) == [3.0] and found.annuli[0].inner < 44
    limit = re.search(
        "radii: 44 left out: no annulus fits beside more than ([0-9.]+[0-9])", caplog.text
    )
    limit = float(limit[1])
    # used to name no limit: what is below it is measured, what is above it is not
    assert list(_geometry(radii=[3, limit - 0.2]).radii) == [3.0, limit - 0.2]
    assert list(_geometry(radii=[3, limit + 0.2]).radii) == [3.0]


def test_the_only_radius_is_an_error(recwarn):
    for asked in ({"radii": [200]}, {"radius": 200.0}):
        with pytest.raises(ValueError, match="radi.*: 200 found, expected less than 45.3"):
            _geometry(**asked)
    assert not len(recwarn)


def test_a_radius_beyond_the_usual_annulus_is_kept():
    # used to become the largest inside the annulus of the mode
    found = _geometry(shape=(160, 160), radius=30.0)
    assert found.radius == 30.0 and 30.0 in found.radii
    assert found.annuli[0].inner >= 30.0


def test_a_list_stays_a_list_where_the_image_fills_the_frame():
    found = _geometry(LENS, radii=[60, 65])
    assert list(found.radii) == [60.0, 65.0] and found.annuli == ()


def _star(flux=1e6, shape=(64, 64), n=40, sigma=1.2):
    rng = np.random.default_rng(2)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.exp(-0.5 * ((x - 31.3) ** 2 + (y - 31.8) ** 2) / sigma**2)
    image = flux / (2 * np.pi * sigma**2) * image + 50.0
    return image + np.sqrt(image) * rng.standard_normal((n, *shape)), np.sqrt(image)


def test_radius_is_quoted_whatever_the_noise_says(caplog):
    images, error = _star(flux=3e3, n=300)
    errors = np.broadcast_to(error, images.shape)
    with caplog.at_level(logging.INFO, logger="tso_level3"):
        product = measure(images, errors=errors, unit="electron", radius=11.0)
    assert product.chosen_radius == 11.0
    assert product.meta.tso_level3.instance["quoted"]["reason"] == "radius of the settings"
    assert "has less noise" in caplog.text


def test_a_list_is_never_turned_into_the_fit():
    images, error = _star(n=30)
    errors = np.broadcast_to(error, images.shape)
    product = measure(images, errors=errors, unit="electron", radii=[1.0, 14.0])
    assert product.quoted.kind == "aperture" and list(product.radii) == [1.0, 14.0]


def test_little_light_inside_is_warned_of(caplog):
    images, error = _star(n=30, sigma=4.0)
    errors = np.broadcast_to(error, images.shape)
    product = measure(images, errors=errors, unit="electron", radii=[2.0, 8.0])
    # 1 - exp(-r^2 / 2 sigma^2): 12 and 86 %
    assert "r = 2: 12%" in caplog.text and "r = 8" not in caplog.text
    assert any("r = 2: 12%" in note for note in product.meta.tso_level3.instance["notes"])
