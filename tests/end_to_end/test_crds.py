"""CRDS in every state that it can be in: absent, a cache alone, refusing, silent."""

import contextlib
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from jwst.tso_photometry import TSOPhotometryStep as JwstStep
from stdatamodels.jwst.datamodels import CubeModel

from tests import level2, small_crds
from tso_level3.stpipe import crds as crds_optional
from tso_level3.stpipe.crds import ask, is_set_up
from tso_level3.stpipe.pipeline import TSOLevel3Pipeline
from tso_level3.stpipe.step import TSOPhotometryStep

PARAMETERS = {"radius": 4.5, "radius_inner": 14.0, "radius_outer": 22.0}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return small_crds.make_cache(
        tmp_path_factory.mktemp("crds"),
        parameters=PARAMETERS,
        pipeline={"tso_photometry": {"radius_outer": 23.0}},
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return level2.write(tmp_path_factory.mktemp("level2"))


@pytest.fixture(scope="module")
def in_counts(tmp_path_factory):
    return level2.write(tmp_path_factory.mktemp("counts"), unit="DN/s")


@contextlib.contextmanager
def server(*, answers=None):
    """A server on this machine; without an answer it accepts, and keeps silent."""
    held = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        stop = threading.Event()

        def accept():
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    held.append(listening.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://localhost:{listening.getsockname()[1]}", held
        finally:
            stop.set()
            thread.join()
            for connection in held:
                connection.close()


@pytest.fixture
def refusing():
    """Address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    return f"http://localhost:{port}"


def test_absent_is_not_set_up():
    with small_crds.crds():
        assert not is_set_up()


@pytest.mark.parametrize("name", ["CRDS_PATH", "CRDS_SERVER_URL", "CRDS_PATH_SINGLE"])
def test_a_variable_sets_up(name, monkeypatch):
    with small_crds.crds():
        monkeypatch.setenv(name, " ")
        assert not is_set_up()
        monkeypatch.setenv(name, "/somewhere")
        assert is_set_up()


def test_default_cache_sets_up(tmp_path, monkeypatch):
    monkeypatch.setattr(crds_optional.config, "CRDS_DEFAULT_CACHE", str(tmp_path))
    with small_crds.crds():
        assert not is_set_up()
        (tmp_path / "config" / "jwst").mkdir(parents=True)
        assert is_set_up()


@pytest.mark.parametrize("cls", [TSOPhotometryStep, TSOLevel3Pipeline])
def test_absent_gives_no_parameters_and_asks_nobody(cls, files, monkeypatch, caplog):
    def asked(*_):
        raise AssertionError("CRDS was asked")

    monkeypatch.setattr(crds_optional.heavy_client, "get_config_info", asked)
    with small_crds.crds(), caplog.at_level("WARNING"):
        found = cls.get_config_from_reference(str(files.segments[0]))
    assert not {"radius", "radius_inner"} & set(found)
    assert not caplog.records


def test_absent_used_to_end_the_process(files):
    """What this module is for: jwst's own step ends here with SystemExit."""
    with small_crds.crds(), pytest.raises(SystemExit):
        JwstStep.get_config_from_reference(str(files.segments[0]))


def test_cache_gives_the_parameter_reference(cache, files):
    with small_crds.crds(cache):
        found = TSOPhotometryStep.get_config_from_reference(str(files.segments[0]))
    assert {name: found[name] for name in PARAMETERS} == PARAMETERS


def test_cache_gives_the_pipeline_its_own_reference(cache, files):
    """The step's reference, and over it that of the official pipeline."""
    with small_crds.crds(cache):
        found = TSOLevel3Pipeline.get_config_from_reference(str(files.association))
    expected = PARAMETERS | {"radius_outer": 23.0}
    assert {name: found["steps"]["tso_photometry"][name] for name in PARAMETERS} == expected


def test_cache_gives_the_gain(cache, in_counts):
    with small_crds.crds(cache):
        model = TSOPhotometryStep.call(str(in_counts.segments[0]))
    assert model.unit == "electron"
    reference = model.meta.ref_file.instance
    assert reference["gain"]["name"] == "crds://jwst_nircam_gain_0001.fits"
    assert reference["crds"]["context_used"] == "jwst_0001.pmap"
    # the largest apertures hold nearly all of the star; a gain forgotten would be a factor of 2
    largest = np.median(model.light_curve["aperture_flux"][:, -1])
    assert largest == pytest.approx(in_counts.simulation.flux, rel=0.15)


def test_gain_is_not_asked_for_where_the_unit_needs_none(cache, files, monkeypatch):
    monkeypatch.setattr(
        TSOPhotometryStep, "find_reference", lambda *_: pytest.fail("a reference was asked for")
    )
    with small_crds.crds(cache):
        assert TSOPhotometryStep.call(str(files.segments[0])).unit == "Jy"


def test_without_crds_counts_stay_counts(in_counts):
    with small_crds.crds():
        model = TSOPhotometryStep.call(str(in_counts.segments[0]))
    assert model.unit == "DN/s" or model.unit == "DN / s"


def test_override_gain_needs_no_crds(cache, in_counts):
    """Finalising used to look up the context, and to end the process."""
    gain = cache / "references/jwst/nircam/jwst_nircam_gain_0001.fits"
    with small_crds.crds():
        model = TSOPhotometryStep.call(str(in_counts.segments[0]), override_gain=str(gain))
    assert model.unit == "electron"
    assert model.meta.ref_file.instance["gain"]["name"] == str(gain)


@pytest.mark.parametrize("cached", [False, True])
def test_refusing_server(cached, cache, files, refusing, tmp_path, caplog):
    folder = cache if cached else tmp_path
    with small_crds.crds(folder, refusing), caplog.at_level("WARNING"):
        begun = time.monotonic()
        found = TSOPhotometryStep.get_config_from_reference(str(files.segments[0]))
        waited = time.monotonic() - begun
    assert ("radius" in found) == cached
    assert any("CRDS cannot be used" in line for line in caplog.messages) == (not cached)
    assert waited < 5.0


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("cls", [TSOPhotometryStep, TSOLevel3Pipeline])
def test_silent_server_is_waited_for_once(cls, cached, cache, files, tmp_path, monkeypatch):
    """It used to be waited for an hour, and once for each step of a pipeline."""
    assert crds_optional.PATIENCE < 30
    monkeypatch.setattr(crds_optional, "PATIENCE", 1)
    folder = cache if cached else tmp_path
    with server() as (address, held), small_crds.crds(folder, address):
        begun = time.monotonic()
        found = cls.get_config_from_reference(str(files.segments[0]))
        reference = cls().find_reference(str(files.segments[0]), "gain")
        waited = time.monotonic() - begun
        assert len(held) == 1
    section = found if cls is TSOPhotometryStep else found["steps"].get("tso_photometry", {})
    assert ("radius" in section) == cached
    assert (reference is not None) == cached
    assert 1.0 <= waited < 5.0


def test_threads_leave_the_time_limits_as_they_were(monkeypatch):
    """Used to leave a limit of 20 s on all new sockets of the process."""
    before = socket.getdefaulttimeout(), crds_optional.config.get_client_timeout_seconds()
    limits, first_is_in, second_begins = [], threading.Event(), threading.Event()
    monkeypatch.setattr(
        crds_optional.heavy_client, "get_config_info", lambda name: SimpleNamespace(connected=True)
    )

    def question(wait):
        limits.append(socket.getdefaulttimeout())
        first_is_in.set()
        # the first one ends while the second one asks
        second_begins.wait(wait)
        time.sleep(wait)
        return 1

    with monkeypatch.context() as patch:
        patch.setenv("CRDS_PATH", "/nowhere")
        first = threading.Thread(target=ask, args=("a", lambda: question(0.3), 0))
        second = threading.Thread(target=ask, args=("b", lambda: question(0.6), 0))
        first.start()
        assert first_is_in.wait(10)
        second.start()
        second_begins.set()
        first.join()
        second.join()
    assert limits == [crds_optional.PATIENCE] * 2
    after = socket.getdefaulttimeout(), crds_optional.config.get_client_timeout_seconds()
    assert after == before


def test_silent_server_does_not_keep_a_light_curve(files, tmp_path, monkeypatch):
    monkeypatch.setattr(crds_optional, "PATIENCE", 1)
    with server() as (address, held), small_crds.crds(tmp_path, address):
        model = TSOPhotometryStep.call(str(files.segments[0]))
        assert len(held) == 1
    assert len(model.light_curve) == level2.N_INT


def test_own_timeout_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(crds_optional, "PATIENCE", 20)
    with server() as (address, _), small_crds.crds(tmp_path, address):
        monkeypatch.setenv("CRDS_CLIENT_TIMEOUT_SECONDS", "1")
        begun = time.monotonic()
        assert ask("anything", lambda: "answer", "nothing") == "nothing"
        assert time.monotonic() - begun < 5.0


def test_timeouts_are_put_back(cache):
    with small_crds.crds(cache):
        assert ask("a number", lambda: socket.getdefaulttimeout(), None) == crds_optional.PATIENCE
    assert socket.getdefaulttimeout() is None


def test_a_lookup_that_fails_is_a_line(cache, files, caplog):
    """The instrument has no such reference: the answer is none, and the step goes on."""
    with small_crds.crds(cache), caplog.at_level("WARNING"):
        assert TSOPhotometryStep().find_reference(str(files.segments[0]), "flat") is None
    assert any("CRDS has no reference file of type flat" in line for line in caplog.messages)


def test_file_without_metadata_is_a_value_error(tmp_path):
    """A FITS file that no data model wrote used to be a KeyError, which stpipe lets pass."""
    from astropy.io import fits

    path = tmp_path / "image_I001.slp.fits"
    fits.PrimaryHDU(np.ones((2, 8, 8), dtype=np.float32)).writeto(path)
    with pytest.raises(ValueError, match="no metadata of a JWST data model found"):
        TSOPhotometryStep._get_crds_parameters(str(path))
    with small_crds.crds():
        assert not TSOPhotometryStep.get_config_from_reference(str(path))


@pytest.mark.parametrize("given", [np.zeros((3, 4, 4)), [np.zeros((4, 4))], {"products": []}, None])
def test_inputs_without_metadata_have_no_reference(given):
    """An array used to end in `build_config`: it has no truth value."""
    with small_crds.crds():
        config, file = TSOPhotometryStep.build_config(given, radius=4.0)
    assert dict(config) == {"radius": 4.0} and file is None


def test_result_has_versions_without_crds():
    with small_crds.crds():
        model = CubeModel((2, 4, 4))
        TSOPhotometryStep().finalize_result(model, [("gain", "mine.fits")])
    assert model.meta.calibration_software_version
    assert model.meta.ref_file.instance["gain"]["name"] == "mine.fits"
    assert "context_used" not in model.meta.ref_file.instance["crds"]
