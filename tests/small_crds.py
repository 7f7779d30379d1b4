"""A small CRDS cache, enough for NIRCam's gain and parameter references."""

import os
from contextlib import contextmanager

import asdf
import numpy as np
import pytest
from stdatamodels.jwst.datamodels import GainModel

GAIN = 2.05
_CONTEXT = "jwst_0001.pmap"
_STAMP = "4c01811782957de5c859ae902892ccc4e70274fa"


def make_cache(folder, *, parameters=None, pipeline=None, gain=GAIN):
    """Write a cache.

    `parameters` and `pipeline` are what the references of the step and of the pipeline set.
    """
    for name in ("config/jwst", "mappings/jwst", "references/jwst/nircam"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_config(folder / "config/jwst")
    references = folder / "references/jwst/nircam"
    kinds = {}
    if gain is not None:
        kinds["gain"] = "jwst_nircam_gain_0001.fits"
        _write_gain(references / kinds["gain"], gain)
    if parameters is not None:
        kinds["pars-tsophotometrystep"] = "jwst_nircam_pars-tsophotometrystep_0001.asdf"
        _write_parameters(
            references / kinds["pars-tsophotometrystep"],
            "jwst.tso_photometry.tso_photometry_step.TSOPhotometryStep",
            "tso_photometry",
            parameters,
        )
    if pipeline is not None:
        kinds["pars-tso3pipeline"] = "jwst_nircam_pars-tso3pipeline_0001.asdf"
        _write_parameters(
            references / kinds["pars-tso3pipeline"],
            "jwst.pipeline.calwebb_tso3.Tso3Pipeline",
            "calwebb_tso3",
            {},
            pipeline,
        )
    _write_mappings(folder / "mappings/jwst", kinds)
    return folder


def environment(folder):
    """Variables that make CRDS use the cache."""
    return {"CRDS_PATH": str(folder), "CRDS_IGNORE_MAPPING_CHECKSUM": "1"}


@contextmanager
def crds(folder=None, server=None):
    """Let CRDS use a cache, a server, both or none, inside the block."""
    from crds.client import api

    variables = environment(folder) if folder is not None else {}
    if server is not None:
        variables["CRDS_SERVER_URL"] = server
    before = api.get_crds_server()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CRDS_")]:
            if "PATH" in name or name in ("CRDS_SERVER_URL", "CRDS_CONTEXT"):
                patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        if server is not None:
            api.set_crds_server(server)
        forget()
        try:
            yield
        finally:
            api.set_crds_server(before)
            forget()


def forget():
    """Empty what CRDS and this package remember of the cache and the server in this process."""
    from crds.core import utils

    from tso_level3.stpipe import crds as crds_optional

    utils.clear_function_caches()
    crds_optional._failed.clear()


def _write_config(folder):
    contexts = dict.fromkeys(
        ("operational_context", "edit_context", "latest_context", "default_context"), _CONTEXT
    )
    info = {
        "observatory": "jwst",
        **contexts,
        "versions_context": _CONTEXT,
        "bad_files": "",
        "bad_files_list": [],
        "mappings": [],
        "context_names": [],
        "last_synced": "2024-01-01 00:00:00",
        "crds_version": {"str": "13.0.0"},
        "force_remote_mode": False,
        "reference_url": "",
        "mapping_url": "",
        "status": "server",
        "connected": True,
        "service_checksum": "",
    }
    (folder / "server_config").write_text(repr(info))
    (folder / "bad_files.txt").write_text("")


def _header(mapping, name, **others):
    return {
        "derived_from": "made up",
        "mapping": mapping,
        "name": name,
        "observatory": "JWST",
        "sha1sum": _STAMP,
        **others,
    }


def _write_mapping(folder, header, selector):
    (folder / header["name"]).write_text(f"header = {header!r}\n\nselector = {selector}\n")


def _write_mappings(folder, kinds):
    for kind, reference in kinds.items():
        header = _header(
            "REFERENCE",
            f"jwst_nircam_{kind}_0001.rmap",
            classes=("Match", "UseAfter"),
            filekind=kind,
            instrument="NIRCAM",
            parkey=(
                ("META.INSTRUMENT.DETECTOR",),
                ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME"),
            ),
        )
        useafter = f"UseAfter({{'1900-01-01 00:00:00': {reference!r}}})"
        selector = f"Match({{('NRCA1|NRCA2|NRCA3|NRCALONG',): {useafter}}})"
        _write_mapping(folder, header, selector)
    instrument = _header(
        "INSTRUMENT", "jwst_nircam_0001.imap", instrument="NIRCAM", parkey=("REFTYPE",)
    )
    _write_mapping(folder, instrument, {kind: f"jwst_nircam_{kind}_0001.rmap" for kind in kinds})
    top = _header("PIPELINE", _CONTEXT, parkey=("META.INSTRUMENT.NAME",))
    _write_mapping(folder, top, {"NIRCAM": "jwst_nircam_0001.imap"})


def _write_gain(path, gain):
    model = GainModel(np.full((2048, 2048), gain, dtype=np.float32))
    model.meta.instrument.name = "NIRCAM"
    model.meta.subarray.xstart = model.meta.subarray.ystart = 1
    model.meta.subarray.xsize = model.meta.subarray.ysize = 2048
    model.save(path)


def _write_parameters(path, class_name, name, parameters, steps=None):
    tree = {"class": class_name, "name": name, "parameters": dict(parameters)}
    if steps is not None:
        tree["steps"] = [
            {"class": class_name, "name": step, "parameters": dict(values)}
            for step, values in steps.items()
        ]
    asdf.AsdfFile(tree).write_to(path)
