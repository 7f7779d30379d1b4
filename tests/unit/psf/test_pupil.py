import numpy as np
import pytest

from tso_level3.psf import pupil


def test_area_is_that_of_eighteen_hexagons_less_the_struts():
    area = pupil.draw().amplitude.sum() * (pupil.SIDE / pupil.NPUP) ** 2
    hexagons = 18 * 1.5 * np.sqrt(3) * 0.755**2
    assert 0.95 * hexagons < area < 0.98 * hexagons


def test_segments_are_numbered_from_their_centres():
    segments, axis = pupil.draw().segments, pupil.pupil_axis()
    assert set(np.unique(segments)) == set(range(19))
    for number, (x, y) in enumerate(pupil.segment_centers(), start=1):
        rows, cols = np.nonzero(segments == number)
        # a strut takes a strip of the segment away, a third of a pixel shifts its mean
        assert np.hypot(axis[cols].mean() - x, axis[rows].mean() - y) < 0.06


def test_left_right_symmetry_and_rotation():
    amplitude = pupil.draw().amplitude
    np.testing.assert_allclose(amplitude, amplitude[:, ::-1], rtol=0, atol=0.13)
    assert abs(amplitude - amplitude[:, ::-1]).mean() < 1e-3
    turned = pupil.draw(60.0).amplitude
    assert abs(turned.sum() / amplitude.sum() - 1) < 2e-3
    assert abs(turned - amplitude).sum() > 100  # the struts have moved


def test_the_cached_pupil_cannot_be_changed():
    for array in pupil.draw():
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


@pytest.mark.parametrize("rotation", [0.0, -4.83])
def test_wavefront_has_the_rms_asked_for_and_lives_on_segments(rotation):
    opd = pupil.segment_wavefront(seed=3, rms=68e-9, rotation=rotation)
    weight = pupil.draw(rotation).amplitude
    mean = (opd * weight).sum() / weight.sum()
    rms = np.sqrt((weight * opd**2).sum() / weight.sum())
    assert abs(mean) < 1e-20
    assert abs(rms / 68e-9 - 1) < 1e-12
    assert not opd[pupil.draw(rotation).segments == 0].any()
    again = pupil.segment_wavefront(seed=3, rms=68e-9, rotation=rotation)
    np.testing.assert_array_equal(opd, again)
    assert abs(opd - pupil.segment_wavefront(seed=4, rotation=rotation)).max() > 10e-9


def test_segment_tilt_is_a_plane_on_one_segment():
    opd = pupil.segment_tilt(8, tip=1e-7, tilt=-2e-7, piston=5e-8)
    mine = pupil.draw().segments == 8
    assert not opd[~mine].any()
    rows, cols = np.nonzero(mine)
    axis = pupil.pupil_axis()
    x, y = pupil.segment_centers()[7]
    plane = 5e-8 - 2e-7 * (axis[cols] - x) + 1e-7 * (axis[rows] - y)
    np.testing.assert_allclose(opd[mine], plane, rtol=0, atol=1e-18)


@pytest.mark.parametrize("segment", [0, 19, "A1"])
def test_no_such_segment(segment):
    with pytest.raises(ValueError, match="1 to 18"):
        pupil.segment_tilt(segment, 0, 0)


def test_negative_rms():
    with pytest.raises(ValueError, match="rms is -1"):
        pupil.segment_wavefront(seed=1, rms=-1)
