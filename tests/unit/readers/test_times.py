import numpy as np
import pytest
from astropy.time import Time

from tests.unit.readers import samples
from tso_level3.flags import Flag
from tso_level3.readers.times import given_times, integration_times, unwrap

DTYPE = np.dtype(
    [("integration_number", "i4")]
    + [(f"int_{p}_{s}", "f8") for s in ("MJD_UTC", "BJD_TDB") for p in ("start", "mid", "end")]
)
MICROSECOND = 1e-6 / samples.DAY
# A double of 60000 d resolves 0.6 microseconds.
TOLERANCE = 2 * MICROSECOND


def header(first=1, total=12, **changes):
    span = (total * samples.CADENCE - samples.FRAME) / samples.DAY
    exposure = {
        "start_time": samples.START,
        "mid_time": samples.START + span / 2,
        "end_time": samples.START + span,
        "nints": total,
        "integration_start": first,
        "integration_time": samples.LENGTH,
        "frame_time": samples.FRAME,
        "nresets_between_ints": 1,
    }
    exposure.update(changes)
    return {"exposure": {k: v for k, v in exposure.items() if v is not None}}


def with_tdb(tree):
    exposure = tree["exposure"]
    for word in ("start", "mid", "end"):
        utc = exposure[f"{word}_time"]
        exposure[f"{word}_time_tdb"] = utc + samples.shift(utc)
    return tree


def rows(first=1, count=6):
    return samples.table_of(first, count, DTYPE)


def assert_times(times, first, count):
    utc = samples.mid_times(first, count)
    np.testing.assert_allclose(times.mjd_utc, utc, rtol=0, atol=TOLERANCE)
    return utc


def test_table():
    times = integration_times(rows(), header(), 6)
    utc = assert_times(times, 1, 6)
    np.testing.assert_allclose(times.bmjd_tdb, utc + samples.shift(utc), rtol=0, atol=TOLERANCE)
    assert times.source == "INT_TIMES"
    assert not times.flags.any() and not times.notes
    assert times.exposure_time == samples.LENGTH


@pytest.mark.parametrize("table", [rows(7, 6), rows(1, 12)], ids=["segment", "exposure"])
def test_second_segment_with_the_rows_of_segment_or_exposure(table):
    times = integration_times(table, header(first=7), 6)
    assert_times(times, 7, 6)
    assert times.first == 7 and times.source == "INT_TIMES" and not times.flags.any()


def test_no_integration_start_counts_from_the_table():
    # Used to be an empty slice upstream, where the table does not begin with 1.
    times = integration_times(rows(7, 6), header(first=7, integration_start=None), 6)
    assert_times(times, 7, 6)
    assert times.first == 7


def test_numbers_that_count_from_the_segment():
    table = rows(7, 6)
    table["integration_number"] = np.arange(1, 7)
    times = integration_times(table, header(first=7), 6)
    assert_times(times, 7, 6)
    assert any("in their order" in note for note in times.notes)


def test_rows_of_another_segment_are_not_taken_for_these():
    times = integration_times(rows(1, 6), header(first=7), 6)
    assert_times(times, 7, 6)  # from the header
    assert (times.flags & Flag.TIME_FROM_HEADER).all()
    assert times.source == "EXPSTART"


@pytest.mark.parametrize(
    "numbers",
    [[32766, 32767, -32768, -32767], [32766, 32767, 0, 1], [32766, 32767, 1, 2]],
)
def test_number_wraps(numbers):
    assert unwrap(numbers)[:2].tolist() == [32766, 32767]
    assert np.all(np.diff(unwrap(numbers)) == 1)
    table = rows(32766, 4)
    table["integration_number"] = numbers
    times = integration_times(table, header(first=32766, total=40000), 4)
    assert_times(times, 32766, 4)
    assert not times.flags.any()


def test_number_begins_behind_the_wrap():
    table = rows(40001, 4)
    table["integration_number"] = np.arange(40001, 40005) - 65536
    times = integration_times(table, header(first=40001, total=50000), 4)
    assert_times(times, 40001, 4)
    assert not times.flags.any()


@pytest.mark.parametrize("table", [None, rows()[:0], np.zeros(3)], ids=["no", "empty", "other"])
def test_no_rows(table):
    times = integration_times(table, header(), 6)
    assert_times(times, 1, 6)
    assert (times.flags & Flag.TIME_FROM_HEADER).all()
    assert (times.flags & Flag.NO_BARYCENTRIC_TIME).all()
    assert not (times.flags & Flag.NO_TIME).any()
    assert np.isnan(times.bmjd_tdb).all()
    assert times.source == "EXPSTART"
    assert any("EXPSTART" in note for note in times.notes)
    assert any("barycentric" in note for note in times.notes)


def test_missing_rows_are_joined_to_the_others():
    table = np.delete(rows(1, 6), [2, 5])
    table["int_mid_MJD_UTC"] += 0.5 / samples.DAY  # the header is half a second off
    table["int_mid_BJD_TDB"] += 0.5 / samples.DAY
    times = integration_times(table, header(), 6)
    utc = samples.mid_times(1, 6) + 0.5 / samples.DAY
    np.testing.assert_allclose(times.mjd_utc, utc, rtol=0, atol=TOLERANCE)
    flagged = (times.flags & Flag.TIME_FROM_HEADER) > 0
    assert flagged.tolist() == [False, False, True, False, False, True]
    # The correction is that of the neighbour: it changes by 0.03 s in a cadence.
    correction = samples.shift(samples.mid_times(1, 6))
    np.testing.assert_allclose(times.bmjd_tdb - utc, correction, rtol=0, atol=0.03 / samples.DAY)
    assert "2 of 6" in " ".join(times.notes)


@pytest.mark.parametrize("bad", [0.0, np.nan, -1.0])
def test_zero_and_nan_rows(bad):
    table = rows()
    table["int_mid_MJD_UTC"][[0, 3]] = bad
    times = integration_times(table, header(), 6)
    assert_times(times, 1, 6)
    assert ((times.flags & Flag.TIME_FROM_HEADER) > 0).tolist() == [True, False, False, True, 0, 0]


def test_one_time_that_does_not_rise():
    table = rows()
    table["int_mid_MJD_UTC"][2] -= 0.5
    times = integration_times(table, header(), 6)
    assert_times(times, 1, 6)
    assert (times.flags & Flag.TIME_FROM_HEADER).nonzero()[0].tolist() == [2]
    assert any("does not rise" in note for note in times.notes)


def test_times_that_fall():
    table = rows()
    table["int_mid_MJD_UTC"] = table["int_mid_MJD_UTC"][::-1].copy()
    times = integration_times(table, header(), 6)
    assert_times(times, 1, 6)
    assert (times.flags & Flag.TIME_FROM_HEADER).all()


def test_zero_barycentric_column_stays_empty():
    table = rows()
    for word in ("start", "mid", "end"):
        table[f"int_{word}_BJD_TDB"] = 0
    times = integration_times(table, header(), 6)
    assert_times(times, 1, 6)
    assert np.isnan(times.bmjd_tdb).all()  # never the uncorrected value
    assert (times.flags == Flag.NO_BARYCENTRIC_TIME).all()


def test_zero_barycentric_column_from_tdb_keywords():
    table = rows()
    table["int_mid_BJD_TDB"] = 0
    times = integration_times(table, with_tdb(header()), 6)
    utc = assert_times(times, 1, 6)
    # Differences of times of 60000 d carry a microsecond each.
    np.testing.assert_allclose(
        times.bmjd_tdb, utc + samples.shift(utc), rtol=0, atol=5 * MICROSECOND
    )
    assert not times.flags.any()
    assert any("TDB-BEG" in note for note in times.notes)


def test_barycentric_from_bartdelt():
    tree = header()
    tree["time"] = {"barycentric_correction": 123.0}
    times = integration_times(None, tree, 6)
    utc = assert_times(times, 1, 6)
    np.testing.assert_allclose(times.bmjd_tdb, utc + 123.0 / samples.DAY, rtol=0, atol=TOLERANCE)
    assert any("BARTDELT" in note for note in times.notes)


def test_tdb_keywords_without_light_travel_are_no_barycentric_times():
    tree = header()
    for word in ("start", "mid", "end"):
        utc = Time(tree["exposure"][f"{word}_time"], format="mjd", scale="utc")
        tree["exposure"][f"{word}_time_tdb"] = utc.tdb.mjd
    times = integration_times(None, tree, 6)
    assert np.isnan(times.bmjd_tdb).all()


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_barycentric_column_that_cannot_be(offset):
    table = rows()
    table["int_mid_BJD_TDB"] = table["int_mid_MJD_UTC"] + offset
    times = integration_times(table, header(), 6)
    assert np.isnan(times.bmjd_tdb).all()
    assert any("left out" in note for note in times.notes)


def test_full_julian_dates_of_the_barycentric_column():
    table = rows()
    table["int_mid_BJD_TDB"] += 2400000.5
    times = integration_times(table, header(), 6)
    utc = samples.mid_times(1, 6)
    # A double of 2.4e6 d resolves 40 microseconds.
    np.testing.assert_allclose(
        times.bmjd_tdb, utc + samples.shift(utc), rtol=0, atol=60 * MICROSECOND
    )


def test_nothing_is_known():
    times = integration_times(None, {}, 3)
    assert np.isnan(times.mjd_utc).all() and times.source == "none"
    assert (times.flags == (Flag.NO_TIME | Flag.NO_BARYCENTRIC_TIME)).all()


def test_header_of_the_segment_not_of_the_exposure():
    first = 7
    start = samples.START + (first - 1) * samples.CADENCE / samples.DAY
    end = start + (6 * samples.CADENCE - samples.FRAME) / samples.DAY
    tree = header(first=first, start_time=start, end_time=end)
    assert_times(integration_times(None, tree, 6), first, 6)


def test_cadence_from_the_length_of_the_exposure():
    tree = header(frame_time=None)
    span = 12 * samples.CADENCE / samples.DAY
    tree["exposure"]["end_time"] = samples.START + span
    assert_times(integration_times(None, tree, 6), 1, 6)


def test_start_from_date_and_time():
    tree = header(start_time=None, mid_time=None, end_time=None)
    tree["observation"] = {"date": "2024-01-01", "time": "06:00:00.000"}
    times = integration_times(None, tree, 6)
    assert_times(times, 1, 6)
    assert times.source == "DATE-OBS"


def test_a_mean_image_has_the_time_of_the_exposure():
    tree = header(integration_start=None)
    times = integration_times(rows(1, 12), tree, 1, image=True)
    assert times.mjd_utc[0] == tree["exposure"]["mid_time"]
    assert times.source == "EXPMID"


def test_given_times():
    utc = samples.mid_times(1, 4)
    times = given_times(utc, 4)
    np.testing.assert_array_equal(times.mjd_utc, utc)
    assert np.isnan(times.bmjd_tdb).all()
    assert (times.flags == Flag.NO_BARYCENTRIC_TIME).all() and times.source == "given"
    moments = Time(utc, format="mjd", scale="utc")
    np.testing.assert_allclose(given_times(moments.tt, 4).mjd_utc, utc, rtol=0, atol=TOLERANCE)
    dynamical = given_times(moments.tdb, 4)
    assert np.isnan(dynamical.mjd_utc).all()
    np.testing.assert_allclose(dynamical.bmjd_tdb, moments.tdb.mjd, rtol=0, atol=TOLERANCE)
    julian = given_times(utc + 2400000.5, 4)
    np.testing.assert_allclose(julian.mjd_utc, utc, rtol=0, atol=60 * MICROSECOND)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((4, 1)), "now", None, ["a"] * 4])
def test_given_times_that_do_not_fit(bad):
    with pytest.raises(ValueError, match="times"):
        given_times(bad if bad is not None else {}, 4)


def test_the_table_is_not_changed():
    table = rows()
    table["int_mid_BJD_TDB"] = 0
    table["integration_number"][0] = -3
    before = table.copy()
    integration_times(table, header(), 6)
    np.testing.assert_array_equal(table, before)
