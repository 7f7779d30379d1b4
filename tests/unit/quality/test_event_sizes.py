"""Sizes of events: the truth within their errors, and nothing of the star's own."""

import logging

import numpy as np
import pytest

from tso_level3.quality.events.sizes import dip_size, ramp_size, step_size

NOISE = 500e-6


def pulls(measure, truth, make, n=200):
    """Departures from the truth in their errors, over seeds."""
    found = [measure(make(np.random.default_rng(seed))) for seed in range(n)]
    return np.array([(size - truth) / error for size, error in found])


def white(rng, n=400):
    return 3.0 * (1 + NOISE * rng.normal(size=n))


@pytest.mark.parametrize("kind", ["step", "dip", "ramp"])
def test_size_is_right_within_its_error(kind):
    """Used to have no error at all."""
    place = np.arange(400)
    shape, measure, truth = {
        "step": ((place >= 150) * 1.0, lambda flux: step_size(flux, 150, []), -8e-4),
        "dip": ((abs(place - 200) < 8) * 1.0, lambda flux: dip_size(flux, 193, 208), -2e-3),
        "ramp": (np.exp(-place / 20), lambda flux: ramp_size(flux, 20.0), 3e-3),
    }[kind]
    slope = 1e-5 * (place - 200) * (kind != "dip")
    found = pulls(measure, truth, lambda rng: white(rng) * (1 + truth * shape + slope))
    assert abs(found.mean()) < 0.35
    # A standard deviation of 200 is 5 % uncertain; a robust scatter of 60 another 10 %.
    assert 0.8 < found.std() < 1.25


def test_a_transit_is_no_part_of_a_step():
    """Used to measure the ingress with the step."""
    place = np.arange(600)
    transit = 1 - 0.01 * np.clip((120 - abs(place - 300)) / 20, 0, 1)

    def make(rng):
        return white(rng, 600) * transit * (1 + 1e-3 * (place >= 200))

    out = abs(place - 300) > 121
    with_transit = [step_size(make(np.random.default_rng(k)), 200, [])[0] for k in range(20)]
    assert abs(np.mean(with_transit) - 1e-3) > 1e-3
    found = pulls(lambda flux: step_size(np.where(out, flux, np.nan), 200, []), 1e-3, make)
    assert abs(found.mean()) < 0.35 and 0.8 < found.std() < 1.25


def test_what_cannot_be_known_is_not_given():
    flux = np.ones(300)
    flux[100:] = np.nan
    assert np.isnan(step_size(flux, 100, [])).all()
    assert np.isnan(step_size(np.ones(300), 100, [98])).all()
    assert np.isnan(dip_size(flux, 150, 160)).all()
    assert np.isnan(ramp_size(np.full(300, np.nan), 10.0)).all()


def test_events_are_logged_and_kept_by_their_integration(caplog):
    """Used to be counted from 0, and by rows where an exposure begins at another integration."""
    import tso_level3

    n, jump = 200, 120
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:40, :40]
    places = 20 + 0.01 * rng.normal(size=(n, 2)) + 0.4 * (np.arange(n) >= jump)[:, None]
    frames = 1e5 * np.exp(
        -0.5 * ((x - places[:, :1, None]) ** 2 + (y - places[:, 1:, None]) ** 2) / 1.2**2
    )
    frames = frames / (2 * np.pi * 1.2**2) * 10
    frames = rng.poisson(frames + 10).astype(float)
    with caplog.at_level(logging.INFO, "tso_level3"):
        product = tso_level3.measure(
            frames, errors=np.sqrt(frames + 25), unit="electron", radii=[6.0], subframe=21
        )
    (event,) = product.events
    assert event["kind"] == "jump"
    assert abs(event["integration"] - (jump + 1)) <= 1
    numbers, flags = product.light_curve["integration"], product.light_curve["flags"]
    flagged = (np.asarray(flags).astype(int) & int(tso_level3.Flag.EVENT)) != 0
    assert list(numbers[flagged]) == [event["integration"]]
    assert f"jump at integration {event['integration']}," in caplog.text
    assert "row" not in caplog.text
    assert np.isfinite(event["size_err"])
    assert abs(event["size"]) < 5 * event["size_err"] + 1e-3
    from tso_level3.product.summary import event_note, event_rows

    assert event_rows(product)[0][0] == str(event["integration"])
    assert "out_of_transit was not given" in event_note(product)


def test_an_exposure_that_begins_later(tmp_path):
    """Used to name the row of the second file, 130 less than its integration."""
    from tso_level3.product.model import open as open_product
    from tso_level3.run.measure import measure
    from tso_level3.simulate import simulate_files, simulation

    sim = simulation(
        "F210M", n_int=260, segments=2, jumps=((190, 0.3, -0.3),), transit_depth=0.0, shape=(32, 32)
    )
    files = simulate_files(sim, tmp_path)
    product = measure(files.segments[1], radii=[4.0])
    assert product.light_curve["integration"][0] == 131
    (event,) = product.events
    assert abs(event["integration"] - 191) <= 1
    found = open_product(product.save(tmp_path / "x.asdf"))
    assert found.events["integration"][0] == event["integration"]
    assert len(found[50:70].events) == 1
    # All of the rows are the exposure again, its noise measured anew.
    for name in ("flux", "scatter_raw", "scatter_regressed", "scatter_binned", "red_noise"):
        np.testing.assert_allclose(product[:].apertures[name], product.apertures[name], rtol=1e-9)
