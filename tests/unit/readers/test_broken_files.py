"""Damaged files end in a result or in one sentence: never another error, a hang, or much memory."""

import gzip
import json
import random
import resource
import shutil
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.unit.readers import samples
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Box
from tso_level3.readers.open import open_exposure

SAMPLE = 15  # damaged files of each kind that are tried by default
SECONDS = 20
MEGABYTES = 500
VITAL = (
    "NAXIS BITPIX BSCALE BZERO BLANK XTENSION PCOUNT GCOUNT ZNAXIS ZTILE ZBITPIX TFORM TFIELDS"
    " EXTNAME END INTSTART ON_NINT TGROUP DATE-OBS EXPSTART EFFINTTM BUNIT PIXAR_SR"
)
BAD_VALUES = ("-5", "0", "-0.5", "'text    '", "1e30", "T", "99999999999", "", "= = /", "NaN")


class TooLong(BaseException):
    """Not an Exception, so that no reader takes it for damage."""


def calints(folder):
    return samples.write_cube(folder)


def plain_image(folder):
    return samples.write_plain(
        folder, errors=np.ones(samples.SHAPE[1:], np.float32), DATE_OBS="2024-01-01T00:00:00"
    )


def plain_cube(folder):
    values, errors, _ = samples.frames()
    return samples.write_plain(folder, "cube.fits", image=values, errors=errors)


def packed_image(folder):
    path = folder / "frame.fits.gz"
    path.write_bytes(gzip.compress(samples.write_plain(folder).read_bytes()))
    return path


def packed_cube(folder):
    path = folder / "cube.fits.gz"
    path.write_bytes(gzip.compress(plain_cube(folder).read_bytes()))
    return path


def asdf_cube(folder):
    model = samples.cube_model()
    path = folder / "cube_calints.asdf"
    model.save(path)
    return path


def slope(folder):
    return samples.write_slope(folder)


def ramp(folder):
    return samples.write_slope(folder, planes=4, ending=".red.fits")


def listing(folder):
    samples.write_plain(folder, "a.fits")
    path = folder / "names.txt"
    path.write_text("# frames\na.fits\n\na.fits\n")
    return path


def association(folder):
    member = samples.write_cube(folder)
    path = folder / "tso3_asn.json"
    members = [{"expname": member.name, "exptype": "science"}]
    path.write_text(json.dumps({"products": [{"name": "x", "members": members}]}))
    return path


KINDS = {
    function.__name__: function
    for function in (
        calints,
        plain_image,
        plain_cube,
        samples.write_scaled,
        samples.write_tiles,
        packed_image,
        packed_cube,
        asdf_cube,
        slope,
        ramp,
        listing,
        association,
    )
}


def damages(content, kind):
    """List (label, bytes) of damaged versions; bytes are made when they are wanted."""
    out = [("empty", lambda: b"")]
    step = 2880 if len(content) > 20000 else 288
    for end in range(step, len(content), step):
        out.append((f"cut at {end}", lambda end=end: content[:end]))
        out.append((f"cut at {end - 7}", lambda end=end: content[: end - 7]))
        out.append((f"hole at {end}", lambda end=end: content[: end - step] + content[end:]))
    for place in cards_of(content):
        for bad in BAD_VALUES:
            label = f"{content[place : place + 8].decode()} = {bad}"
            out.append((label, lambda place=place, bad=bad: with_value(content, place, bad)))
        out.append((f"no card at {place}", lambda place=place: with_card(content, place, b"")))
        noise = bytes(range(128, 208))
        out.append((f"bytes at {place}", lambda place=place, n=noise: with_card(content, place, n)))
    rng = random.Random(f"bytes {kind}")
    for number in range(60):
        seed = rng.random()
        out.append((f"random bytes {number}", lambda seed=seed: with_noise(content, seed)))
    return out


def cards_of(content):
    """Places of the cards that say how the pixels lie, and of every third other one."""
    if not content.startswith(b"SIMPLE"):
        return []
    out, inside = [], True
    vital = tuple(word.encode() for word in VITAL.split())
    for place in range(0, len(content) - 79, 80):
        card = content[place : place + 80]
        if place % 2880 == 0 and card.startswith((b"SIMPLE  =", b"XTENSION=")):
            inside = True
        if inside and (card.startswith(vital) or (card[8:9] == b"=" and place % 240 == 0)):
            out.append(place)
        if card.rstrip() == b"END":
            inside = False
    return out


def with_card(content, place, card):
    return content[:place] + card[:80].ljust(80) + content[place + 80 :]


def with_value(content, place, value):
    return with_card(content, place, content[place : place + 8] + b"= " + value.encode())


def with_noise(content, seed):
    rng = random.Random(seed)
    out = bytearray(content)
    for _ in range(rng.choice((1, 5, 200))):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def read_all(source, settings):
    """Open and load everything, as a run does, a few frames at a time."""
    exposure = open_exposure(source, settings)
    ny, nx = exposure.shape
    for segment in exposure.segments:
        for start in range(0, segment.n_frames, 4):
            stop = min(start + 4, segment.n_frames)
            pixels = segment.source.load(start, stop, Box(0, 0, nx, ny), variances=True)
            assert pixels.values.shape == (stop - start, ny, nx)
            assert pixels.values.dtype.kind == "f" and pixels.values.dtype.isnative
    assert len(exposure.times.time) == exposure.n_int == len(exposure.integration)
    return exposure


def attempt(source, settings=None):
    """Give what is wrong with the way a damaged input ends; '' where nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            signal.alarm(SECONDS)
            read_all(source, settings or Settings())
    except (ValueError, OSError) as problem:
        text = str(problem)
        if "\n" in text or not 10 < len(text) < 900 or str(Path(source).parent) not in text:
            return f"no sentence that names the file: {text!r}"
        if "cannot be understood" in text:
            return f"not foreseen: {text}"
    except BaseException as problem:
        return f"{type(problem).__name__}: {problem}"
    finally:
        signal.alarm(0)
    return ""


@pytest.fixture
def alarm():
    def stop(number, frame):
        raise TooLong(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.signal(signal.SIGALRM, before)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture(scope="session")
def total():
    """Number of damaged files that were tried, by kind."""
    return {}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged(kind, tmp_path, alarm, request, total):
    path = KINDS[kind](tmp_path)
    read_all(path, Settings())  # the good one is good
    content = path.read_bytes()
    cases = damages(content, kind)
    if not request.config.getoption("--all-broken-files"):
        cases = random.Random(f"sample {kind}").sample(cases, min(SAMPLE, len(cases)))
    before, wrong = peak(), []
    for label, make in cases:
        path.write_bytes(make())
        found = attempt(path)
        if found:
            wrong.append(f"{label}: {found}")
    total[kind] = len(cases)
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong[:30])
    assert peak() - before < MEGABYTES


def test_enough_were_tried(request, total):
    if not request.config.getoption("--all-broken-files"):
        pytest.skip("a sample only; all with --all-broken-files")
    assert set(total) == set(KINDS), "run the whole file"
    assert sum(total.values()) >= 2000


@pytest.mark.parametrize("name", ["x.fits", "x_calints.fits", "x.asdf", "x.json", "x.txt", "x"])
@pytest.mark.parametrize("what", ["missing", "link", "loop", "empty", "text", "zeros", "folder"])
def test_no_file_at_all(what, name, tmp_path, alarm):
    path = tmp_path / name
    if what == "link":
        path.symlink_to(tmp_path / "nowhere.fits")
    elif what == "loop":
        path.symlink_to(path)
    elif what == "folder":
        path.mkdir()
    elif what != "missing":
        path.write_bytes(
            {"empty": b"", "text": b"not an image\n" * 500, "zeros": bytes(9000)}[what]
        )
    with pytest.raises((ValueError, OSError)) as caught:
        read_all(path, Settings())
    text = str(caught.value)
    assert "\n" not in text and len(text) < 900
    assert str(tmp_path) in text


def test_others_of_a_list_are_not_lost(tmp_path, alarm):
    names = [samples.write_plain(tmp_path, f"f{k}.fits", MJD_OBS=60000 + k) for k in range(5)]
    content = names[2].read_bytes()
    for label, make in random.Random(3).sample(damages(content, "list"), 40):
        names[2].write_bytes(make())
        exposure = read_all(names, Settings())
        assert exposure.n_int == 5, label
        box = Box(0, 0, *exposure.shape[::-1])
        values = exposure.segments[0].source.load(0, 5, box).values
        assert np.isfinite(values[[0, 1, 3, 4]]).all(), label


def test_the_whole_list_is_damaged(tmp_path):
    names = [samples.write_plain(tmp_path, f"f{k}.fits") for k in range(3)]
    for name in names:
        name.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="f0.fits.*3 inputs, all unreadable"):
        open_exposure(names)


def test_a_file_is_cut_after_it_was_opened(tmp_path):
    path = samples.write_cube(tmp_path)
    exposure = open_exposure(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 4])
    with pytest.raises(OSError, match="ends before its pixels"):
        exposure.segments[0].source.load(0, 6, Box(0, 0, 10, 12))
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("key", ["GCOUNT", "PCOUNT"])
def test_sizes_that_lead_backwards(key, tmp_path, alarm):
    # Used to be read on without end, since the next header lay before this one.
    path = samples.write_cube(tmp_path)
    content = path.read_bytes()
    place = content.rindex(key.ljust(8).encode())
    path.write_bytes(with_value(content, place, "-5"))
    assert "no negative number" in str(pytest.raises(ValueError, open_exposure, path).value)


def test_metadata_of_a_file_with_something_behind_it(tmp_path, caplog, alarm):
    path = samples.write_cube(tmp_path)
    with path.open("ab") as file:
        file.write(b"XTENSION= 'IMAGE   '".ljust(2880) * 20)
    exposure = open_exposure(path)
    assert exposure.n_int == 6 and exposure.meta["instrument"]["filter"] == "F210M"
    assert "does not end where its headers say" in caplog.text
