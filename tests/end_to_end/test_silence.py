"""What a user may mistype: it is told or refused, and never measured as if it were right."""

import logging

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import VarianceUncertainty
from astropy.table import Table
from astropy.time import Time

import tso_level3
from tso_level3.commands import main as cli
from tso_level3.datatypes import Box
from tso_level3.readers.open import open_exposure

N, SHAPE, DEPTH = 24, (48, 48), 0.02
TIMES = 60000.0 + np.arange(N) / 1440
ELECTRON = tso_level3.Settings(unit="electron")


def images(x=23.3, y=24.1, n=N, flux=2e5):
    """A star with a box of a transit in its middle, on a sky of 100 electrons."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    star = (
        flux / (2 * np.pi * 1.5**2) * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / 2.25)
    )
    light = np.ones(n)
    light[n // 3 : 2 * n // 3] -= DEPTH
    frames = 100.0 + light[:, None, None] * star
    return frames + np.sqrt(frames) * rng.standard_normal(frames.shape)


def depth_of(product):
    flux, inside = product.flux, np.zeros(len(product), bool)
    inside[len(product) // 3 : 2 * len(product) // 3] = True
    return 1 - np.median(flux[inside]) / np.median(flux[~inside])


def write(folder, n=N, **headers):
    """One file per frame; ``headers`` maps a keyword to one value per frame, None for none."""
    names = []
    for k, image in enumerate(images()[:n]):
        header = fits.Header({"MJD-AVG": TIMES[k], "BUNIT": "electron"})
        header.update({key: values[k] for key, values in headers.items() if values[k] is not None})
        names.append(folder / f"f{k:03d}.fits")
        fits.writeto(names[-1], image.astype("f4"), header)
    return names


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """All frames as files, which no test changes."""
    return write(tmp_path_factory.mktemp("frames"))


def linked(names, folder):
    """Links to files in a folder of the test's own."""
    out = [folder / name.name for name in names]
    for link, name in zip(out, names):
        link.symlink_to(name)
    return out


@pytest.fixture(scope="module")
def product():
    return tso_level3.measure(images(), times=TIMES, unit="electron")


def test_a_file_named_twice_is_counted_once_and_named(written, tmp_path, caplog):
    # used to be measured as two integrations
    names = written
    (tmp_path / "link.fits").symlink_to(names[3])
    found = open_exposure([*names, names[5], tmp_path / "link.fits"])
    assert found.filenames == tuple(name.name for name in names)
    assert "f005.fits and 1 more: named more than once" in caplog.text


@pytest.mark.parametrize("key", ["FILTER", "OBJECT"])
def test_an_image_that_does_not_say_its_kind_is_named(tmp_path, caplog, key):
    # used to join the others without a word
    found = open_exposure(write(tmp_path, 5, **{key: ["R"] * 4 + [None]}))
    assert found.n_int == 5
    label = {"FILTER": "filter", "OBJECT": "target"}[key]
    words = f"1 of 5 inputs, such as f004.fits, do not say their {label}"
    assert words in caplog.text and words in " ".join(found.notes)


def test_images_of_which_none_says_its_kind_are_told_of_nothing(written, caplog):
    assert open_exposure(written).n_int == N
    assert "do not say" not in caplog.text


def test_the_notes_of_the_input_are_in_the_product():
    settings = tso_level3.Settings(unit="electron", gain=2.0)
    own = open_exposure(images(), settings, times=TIMES).notes
    assert any("gain=2 is not used" in note for note in own)
    product = tso_level3.measure(images(), settings, times=TIMES)
    assert set(own) <= set(product.meta.tso_level3.instance["notes"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: np.where(np.arange(N) == 4, np.nan, t), f"No times are known for 1 of {N}"),
        (
            lambda t: np.where(np.arange(N) == 4, t[3], t),
            "1 times of frames are those of the frame",
        ),
        (lambda t: t[::-1], "do not rise"),
        (lambda t: np.full(N, np.nan), "No times are known."),
    ],
)
def test_times_that_are_given_are_looked_at(caplog, change, words):
    # used to be taken without a note
    found = open_exposure(images(), ELECTRON, times=change(TIMES))
    assert words in caplog.text and words in " ".join(found.notes)


def test_sound_times_are_told_of_nothing(caplog):
    found = open_exposure(images(), ELECTRON, times=TIMES)
    assert "times" not in caplog.text.lower() and not found.times.notes


def test_an_aperture_cut_by_the_frame_is_doubtful():
    # used to be good
    found = tso_level3.measure(images(x=8.0), times=TIMES, unit="electron", radius=12.0)
    verdict = found.meta.tso_level3.instance["verdict"]
    beyond = np.hypot(*np.mgrid[-12:12:0.01, -12:12:0.01]) < 12
    part = beyond[:, : round((12 - 8.5) / 0.01)].sum() / beyond.sum()  # its left side
    assert verdict["grade"] == "doubtful"
    assert f"{part:.0%} of the quoted aperture is beyond the frame" in " ".join(verdict["reasons"])


def test_one_frame_is_doubtful(product):
    # used to be good
    found = tso_level3.measure(images()[0], unit="electron")
    verdict = found.meta.tso_level3.instance["verdict"]
    assert verdict["grade"] == "doubtful" and "from 1 integration," in verdict["reasons"][0]
    assert product.meta.tso_level3.instance["verdict"]["grade"] == "good"


def test_a_table_among_images_is_refused_or_left_out(written, tmp_path, caplog):
    # used to become a row of NaN
    names = linked(written, tmp_path)
    Table({"time": TIMES}).write(tmp_path / "truth.ecsv")
    with pytest.raises(ValueError, match="truth.ecsv"):
        tso_level3.measure([*names, tmp_path / "truth.ecsv"])
    with pytest.raises(ValueError, match="truth.ecsv"):
        tso_level3.measure(str(tmp_path / "truth*"))
    found = tso_level3.measure(str(tmp_path / "*"))
    assert len(found) == N and np.isfinite(found.flux).all()
    assert "truth.ecsv: a file of another kind, no image; left out" in caplog.text


def test_a_product_is_no_input(product, tmp_path):
    # used to be "asdf_library.author: no such file"
    with pytest.raises(ValueError, match=r"a product \(light curve\) found, expected images"):
        tso_level3.measure(product)
    with pytest.raises(ValueError, match=r"a product \(light curve\) found, expected images"):
        tso_level3.measure([product, images()])


def test_out_of_transit_of_detrended_is_the_window(product):
    # used to be a bare TypeError
    with pytest.raises(ValueError, match="out_of_transit: not a parameter.*perhaps window"):
        product.detrended(out_of_transit=(1.0, 2.0))
    with pytest.raises(ValueError, match="windwo: not a parameter, perhaps window"):
        product.detrended(windwo=(1.0, 2.0))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (slice(TIMES[0], TIMES[5]), TypeError),
        (200, IndexError),
        (60000.5, IndexError),
        (np.ones(N - 1, bool), IndexError),
        ([1, 99], IndexError),
        ((1, 2), IndexError),
        (slice(0, 4, 0), ValueError),
    ],
)
def test_rows_that_are_not_there(product, key, kind):
    # used to be raw errors of NumPy
    with pytest.raises(kind, match=f"^rows: .* found, expected rows from 0 to {N - 1}.*between"):
        product[key]


def test_rows_can_be_gone_through(product):
    assert len(list(iter(product.light_curve))) == N
    assert product[-1]["time"] == product.light_curve["time"][N - 1]
    assert len(product.between(TIMES[2], TIMES[5])) == 4


def test_a_reversed_time_is_called_so():
    # used to be "holds 0 integrations"
    with pytest.raises(ValueError, match="out_of_transit: 60001 to 60000 found, which is reversed"):
        tso_level3.Settings(out_of_transit=(60001.0, 60000.0))


def test_a_gain_with_a_unit_is_named():
    # used to be "1.5 e/DN: no such file"
    with pytest.raises(
        ValueError, match="gain: 1.5 e/DN: no such file, expected a positive number"
    ):
        tso_level3.measure(images(), gain="1.5 e/DN")


@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan])
def test_errors_that_are_none_are_called_what_they_are(caplog, value):
    # used to be called zero
    found = open_exposure(images(), ELECTRON, errors=np.full(SHAPE, value), times=TIMES)
    assert "No standard error is positive" in caplog.text and not found.has_errors


def test_how_many_frames_were_looked_at():
    # used to be "in 10 of 40 frames"
    with pytest.raises(ValueError, match=r"in the 10 frames looked at \(of 40\)"):
        tso_level3.measure(np.full((40, 32, 32), np.nan))


def test_the_command_writes_to_a_folder(tmp_path, monkeypatch, capsys):
    # used to be an unknown option of measure
    monkeypatch.chdir(tmp_path)
    fits.writeto("cube.fits", images(n=6).astype("f4"))
    assert cli.main(["measure", "cube.fits", "--output-dir", "new/place"]) == 0
    assert (tmp_path / "new/place/cube_phot.asdf").exists()
    assert cli.main(["measure", "cube.fits", "--output-dir", "new", "-o", "x.csv"]) == 0
    assert (tmp_path / "new/x.csv").exists()
    assert cli.main(["measure", "cube.fits", "--output-dir", "new", "-o", "other/x.csv"]) == 2
    assert "expected a name alone" in capsys.readouterr().err
    pytest.importorskip("matplotlib")
    for command, ending in (("plot", "png"), ("report", "html")):
        arguments = [command, "new/place/cube_phot.asdf", "--output-dir", f"of_{command}"]
        assert not cli.main(arguments)
        assert (tmp_path / f"of_{command}/cube_phot.{ending}").exists()


@pytest.mark.parametrize("kind", ["days", "seconds", "dates", "list", "text"])
def test_times_of_every_kind(kind):
    # used to be taken for days whatever their unit, dates of NumPy for nanoseconds
    time = Time(TIMES, format="mjd")
    given = {
        "days": TIMES * u.day,
        "seconds": (TIMES * u.day).to("s"),
        "dates": time.datetime64,
        "list": list(time),
        "text": list(time.isot),
    }[kind]
    found = open_exposure(images(), ELECTRON, times=given)
    np.testing.assert_allclose(found.times.mjd_utc, TIMES, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"times": TIMES * u.m}, "times: Quantity found, expected MJD"),
        ({"times": TIMES * 86400.0}, "times: 5.184e.09 found, expected days"),
        ({"errors": np.ones(SHAPE) * u.Jy}, "errors: unit Jy found, expected electron"),
        ({"settings": {"radii": [3]}}, "settings: dict found, expected tso_level3.Settings"),
        ({"executor": 4}, "executor: int found, expected .*n_workers"),
        ({"progress": True}, "progress: bool found, expected a function"),
        ({"out_of_transit": (TIMES[0], TIMES[5])}, "out_of_transit: found for frames without"),
    ],
)
def test_arguments_of_another_kind(changes, words):
    # used to be taken, or an AttributeError
    with pytest.raises(ValueError, match=words):
        tso_level3.measure(images() * u.electron, **changes)


def test_a_home_of_nobody_is_one_sentence():
    # used to be a RuntimeError that names nothing
    with pytest.raises(ValueError, match="~nobodyatall/x.fits.*cannot be a file name"):
        tso_level3.measure("~nobodyatall/x.fits")


def test_times_from_zero_are_told_of(caplog):
    # used to be taken for the year 1858 without a word
    found = open_exposure(images(), ELECTRON, times=60.0 * np.arange(N))
    np.testing.assert_array_equal(found.times.mjd_utc, 60.0 * np.arange(N))
    assert "The times given are no dates, 0 to 1380; they are taken for days." in caplog.text


def test_variances_that_are_given_are_no_errors():
    # used to be taken for standard errors
    sigma = np.full(SHAPE, 12.0)
    found = open_exposure(images(), ELECTRON, errors=VarianceUncertainty(sigma**2))
    errors = found.segments[0].source.load(0, N, Box(0, 0, *SHAPE)).errors
    np.testing.assert_allclose(errors, np.broadcast_to(sigma, errors.shape), rtol=1e-12)


def test_pairs_of_times_are_pairs():
    # used to be refused
    pairs = [(TIMES[0], TIMES[7]), (TIMES[16], TIMES[-1])]
    assert tso_level3.Settings(out_of_transit=pairs).out_of_transit == (*pairs[0], *pairs[1])


@pytest.mark.parametrize(
    ("ask", "kind", "words"),
    [
        (lambda p: p.flux_at("3"), ValueError, "radius: '3' found, expected one number"),
        (lambda p: p.flux_at([3, 4]), ValueError, "radius: .3, 4. found, expected one number"),
        (lambda p: p["psf_z"], KeyError, "psf_z: no column of light_curve, perhaps psf_"),
        (lambda p: p[None], TypeError, "rows: None found"),
        (lambda p: p.between(TIMES[9], TIMES[2]), ValueError, "which is reversed"),
        (lambda p: tso_level3.measure(p.light_curve), ValueError, "source: Table found"),
        (lambda p: tso_level3.measure(p.to_dataframe()), ValueError, "source: DataFrame found"),
        (lambda p: tso_level3.measure({"a.fits", "b.fits"}), ValueError, "a set found"),
    ],
)
def test_what_is_asked_of_a_product_is_understood_or_refused(product, ask, kind, words):
    # used to be errors of NumPy, a row of everything, or a light curve in the order of a set
    with pytest.raises(kind, match=words):
        ask(product)


def test_one_vector_need_not_be_a_list(product):
    # used to be taken letter by letter
    names = product.detrended("psf_x", window=()).names
    assert names == product.detrended(["psf_x"], window=()).names


def test_a_product_of_a_pattern_is_named_after_an_image(written, tmp_path, monkeypatch):
    # used to be named after the table that the pattern finds first
    monkeypatch.chdir(tmp_path)
    linked(written, tmp_path)
    Table({"time": TIMES}).write(tmp_path / "a.ecsv")
    assert cli.main(["measure", "*"]) == 0
    assert (tmp_path / "f000_phot.asdf").exists()
    assert cli.main(["measure", "*", "--output-dir", "a.ecsv"]) == 1


def test_dq_bits_without_flags_are_told_of(caplog):
    # used to be ignored without a word
    open_exposure(images(), tso_level3.Settings(unit="electron", dq_bits="SATURATED"))
    assert "dq_bits is not used" in caplog.text


def test_a_subframe_that_the_frame_cuts_is_told_of(caplog):
    # used to be cut without a word
    found = tso_level3.measure(images(), times=TIMES, unit="electron", subframe=(21, 501))
    assert "subframe: 501 x 21 found, 48 x 21 of it are in the frame" in caplog.text
    assert depth_of(found) == pytest.approx(DEPTH, abs=0.003)


@pytest.mark.parametrize("name", ["aperture_from", "kernel"])
def test_a_text_is_no_object(product, name):
    # used to be an error of the file system with a whole product in its name
    with pytest.raises(ValueError, match=f"{name}: TSOLightCurveModel found, expected a text$"):
        tso_level3.Settings(**{name: product})


@pytest.mark.parametrize("name", ["error_extension", "mask_extension"])
def test_the_image_is_not_its_own_error(written, name):
    # used to be taken for it, and the light curve to be good
    names = written
    with pytest.raises(ValueError, match=f"{name}: 0 is the image itself of .*f000.fits"):
        tso_level3.measure(names[0], **{name: "0"})


@pytest.fixture(autouse=True)
def heard(caplog):
    """The command sets the level of the log; here it is the same for all."""
    root, package = logging.getLogger(), logging.getLogger("tso_level3")
    handlers, level = list(root.handlers), package.level
    package.setLevel(logging.NOTSET)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    package.setLevel(level)
