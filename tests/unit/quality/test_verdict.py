"""What a light curve is worth."""

import dataclasses

import numpy as np
import pytest

from tests.products import make_result
from tso_level3 import measure
from tso_level3.commands import main as cli
from tso_level3.product.model import build
from tso_level3.product.summary import overview
from tso_level3.quality.verdict import Signs, verdict_of

FINE = Signs(100, 0.0, 0.0, 0.0, 1e-3, 1e-3, 1e3, 0.0, 0.0, False, np.nan, "")


def test_a_sound_light_curve_is_good():
    assert verdict_of(FINE).grade == "good" and str(verdict_of(FINE)) == "good"
    few = dataclasses.replace(FINE, n=1, scatter=np.nan, expected=np.nan)
    # used to be good: one integration does not show its noise
    assert str(verdict_of(few)).startswith("doubtful: noise cannot be judged from 1 integration")


@pytest.mark.parametrize(
    ("change", "grade", "words"),
    [
        ({"failed": 0.2}, "doubtful", "20% of the integrations were not measured"),
        ({"failed": 0.9}, "failed", "90% of the integrations"),
        ({"changed": 0.2}, "doubtful", "in 20% of the integrations it is unlike the template"),
        ({"outside": 0.7}, "failed", "outside the quoted aperture"),
        ({"scatter": 0.34, "expected": 0.3}, "failed", "scatters by 34%"),
        ({"signal": 1.2}, "failed", "no star stands out"),
        ({"faint": True}, "doubtful", "hardly resembles a star"),
        ({"faint": True, "failed": 0.1}, "failed", "hardly resembles a star"),
        ({"scatter": 3.2e-3}, "doubtful", "3.2 times what the errors say"),
        ({"scatter": 2.5e-4}, "doubtful", "0.25 times what the errors say"),
        ({"filled": 0.06}, "doubtful", "6% of the flux is filled in"),
        ({"missing": 0.2}, "doubtful", "20% of the flux are missing in every"),
        ({"rejected": "follows 0.66"}, "doubtful", "follows 0.66"),
        ({"far": 16.0}, "doubtful", "16.0 pixels from the position"),
        ({"cut": 0.16}, "doubtful", "16% of the quoted aperture is beyond the frame"),
        ({"n": 9}, "doubtful", "cannot be judged from 9 integrations"),
    ],
)
def test_what_is_not_as_it_should_be_is_said(change, grade, words):
    found = verdict_of(dataclasses.replace(FINE, **change))
    assert found.grade == grade and words in "; ".join(found.reasons)


def _frames(x, y, flux=1e5, shape=(48, 48)):
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    away = (columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2
    images = flux / (2 * np.pi * 1.5**2) * np.exp(-0.5 * away / 1.5**2) + 100.0
    errors = np.sqrt(images + 25.0)
    return images + errors * rng.standard_normal(images.shape), errors


def test_frames_whose_star_leaves_fail_and_the_product_is_there(tmp_path, capsys, caplog):
    # used to end with "wrote ..." and status 0
    images, errors = _frames(np.linspace(2, 60, 40), np.linspace(2, 50, 40))
    product = measure(images, errors=errors, unit="electron")
    verdict = product.meta.tso_level3.instance["verdict"]
    assert verdict["grade"] == "failed" and verdict["reasons"]
    assert "Verdict on the light curve: failed: " in caplog.text
    assert overview(product)["verdict"].startswith("failed: ")
    from astropy.io import fits

    path, out = tmp_path / "night.fits", tmp_path / "night.csv"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(images, name="SCI")]).writeto(path)
    assert cli.main(["measure", str(path), "--output", str(out)]) == 2
    assert out.exists() and ", failed" in capsys.readouterr().out


def test_a_star_is_good():
    images, errors = _frames(23.0 + 0.01 * np.arange(30), np.full(30, 24.2))
    product = measure(images, errors=errors, unit="electron", position=(23, 24))
    assert product.meta.tso_level3.instance["verdict"] == {"grade": "good", "reasons": []}
    assert overview(product)["verdict"] == "good"


def test_older_products_have_none():
    assert "verdict" not in overview(build(make_result()))
