import pytest

from tso_level3.psf import bands


@pytest.mark.parametrize(
    ("instrument", "filter", "pupil", "name", "waves", "channel"),
    [
        ("NIRCAM", "F210M", "WLP8", "F210M", 8.03, "NIRCAM_SHORT"),
        ("nircam", "f182m", " wlm8 ", "F182M", -8.0, "NIRCAM_SHORT"),
        ("NIRCAM", "WLP4", "CLEAR", "F212N2", 4.0, "NIRCAM_SHORT"),
        ("NIRCAM", "WLP4", "F164N", "F164N", 4.0, "NIRCAM_SHORT"),
        ("NIRCAM", "WLP4", "WLM8", "F212N2", -4.0, "NIRCAM_SHORT"),
        ("NIRCAM", "F150W2", "F162M", "F162M", 0.0, "NIRCAM_SHORT"),
        ("NIRCAM", "F444W", "F405N", "F405N", 0.0, "NIRCAM_LONG"),
        ("NIRCAM", "F322W2", "F323N", "F323N", 0.0, "NIRCAM_LONG"),
        ("NIRCAM", "F150W2", None, "F150W2", 0.0, "NIRCAM_SHORT"),
        ("NIRCAM", "F250M", "CLEAR", "F250M", 0.0, "NIRCAM_LONG"),
        ("MIRI", "F1500W", None, "F1500W", 0.0, "MIRI"),
    ],
)
def test_header_values(instrument, filter, pupil, name, waves, channel):
    band = bands.resolve(instrument, filter, pupil)
    assert (band.name, band.waves, band.channel) == (name, waves, channel)
    wavelengths, weights = band.samples()
    assert band.low < wavelengths.min() < wavelengths.max() < band.high
    assert abs(weights.sum() - 1) < 1e-12


@pytest.mark.parametrize(
    ("instrument", "filter", "pupil", "told"),
    [
        ("NIRISS", "F150W", None, "instrument is 'NIRISS'"),
        (None, "F150W", None, "instrument is None"),
        ("NIRCAM", "F444W", "GRISMR", "pupil is 'GRISMR'"),
        ("NIRCAM", "F1500W", None, "filter is 'F1500W'"),
        ("NIRCAM", "CLEAR", "WLP8", "expected the name of a NIRCAM filter"),
        ("MIRI", "F1140C", None, "filter is 'F1140C'"),
        ("MIRI", "F1500W", "WLP8", "pupil is 'WLP8'"),
    ],
)
def test_unknown_values_are_named(instrument, filter, pupil, told):
    with pytest.raises(ValueError, match=told):
        bands.resolve(instrument, filter, pupil)


def test_wide_bands_get_more_samples():
    narrow, wide = bands.resolve("NIRCAM", "F212N"), bands.resolve("NIRCAM", "F150W2")
    assert len(narrow.samples()[0]) == 5
    assert len(wide.samples()[0]) >= 15


def test_detectors():
    assert bands.scales("NIRCAM_LONG", "NRCBLONG") == bands.scales("NIRCAM_LONG", "NRCB5")
    assert bands.scales("MIRI", "MIRIM") == bands.scales("MIRI", "MIRIMAGE")
    assert bands.scales("NIRCAM_SHORT", "NRCX9") == (0.0312, 0.0312)
    for detector in ("NRCA1", "NRCA2", "NRCA3", "NRCA4", "NRCB1", "NRCB2", "NRCB3", "NRCB4"):
        assert all(0.0306 < s < 0.0316 for s in bands.scales("NIRCAM_SHORT", detector))
    assert bands.rotation("NIRCAM") == 0
    assert bands.rotation("NIRCAM", "NRCA3") == -0.28
