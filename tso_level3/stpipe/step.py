"""The photometry step for the JWST calibration pipeline."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jwst.tso_photometry import TSOPhotometryStep as JwstTSOPhotometryStep
from stpipe import Step

from tso_level3.config.settings import Settings, fields_of, from_strings, spec_text
from tso_level3.product import model as product
from tso_level3.readers.open import open_exposure
from tso_level3.readers.units import normal_unit
from tso_level3.report.further import ENDINGS, check_packages, save_further
from tso_level3.run.measure import run
from tso_level3.stpipe.catalog import for_stacking, official_table
from tso_level3.stpipe.crds import CrdsOptional
from tso_level3.stpipe.errors import (
    OneSentence,
    StepError,
    check_known,
    check_parameters,
    in_one_sentence,
    plain_values,
)
from tso_level3.stpipe.hosts import host_of, logging_like_host
from tso_level3.stpipe.inputs import (
    exposures_of,
    filename_of,
    first_member,
    joined,
    root_name,
    unit_of_file,
)
from tso_level3.utils.progress import progress

if TYPE_CHECKING:
    from astropy.table import QTable

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["TSOPhotometryStep"]

log = logging.getLogger(__name__)

#: The further products, in the log.
_WORDS = {
    "save_catalog": "TSO photometry catalog",
    "save_fits": "light curve",
    "save_plots": "plot",
}


def _spec() -> str:
    """Return the specification of parameters: fields of `Settings`, and names of files."""
    text = spec_text()
    for item in fields_of():
        if item.metadata["kind"] == "any":
            # A number or a text: "pass" of configobj.
            text = text.replace(f"{item.name} = string(", f"{item.name} = pass(")
    return text + (
        "output_ext = string(default='.asdf')  # Ending of the product's file\n"
        "suffix = string(default='phot')  # Suffix of the product's file\n"
    )


class TSOPhotometryStep(CrdsOptional, OneSentence, JwstTSOPhotometryStep):
    """Measure the light curve of an imaging time series, with many apertures at once.

    Alone, the step returns a `tso_level3.TSOLightCurveModel`, which stpipe saves as
    ``<root>_phot.asdf``. In the place of ``tso_photometry`` in a pipeline it saves the model
    itself and returns the table that jwst's step returns. As a hook of another step it saves the
    model and returns nothing, so that the host's product stays what it is.
    """

    class_alias = "tso_level3_photometry"

    spec = _spec()

    reference_file_types = ["gain"]

    _input_filename: str | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._host: Step | None = None
        #: The table of the official product, of the latest run; None where it is not needed.
        self.catalog: QTable | None = None
        check_known(kwargs, self.load_spec_file())
        with in_one_sentence(logged=True):
            kwargs = plain_values(kwargs)
        super().__init__(*args, **kwargs)
        check_parameters(self._parameters())

    def run(self, *args: Any) -> Any:
        """Run the step.

        Parameters
        ----------
        *args
            The input, and further arguments of a hook.

        Returns
        -------
        TSOLightCurveModel, QTable or None
            The product alone, the table inside a pipeline, None as a hook.
        """
        self._host = host_of(self, sys._getframe(1))
        try:
            with logging_like_host():
                return super().run(*args)
        finally:
            self._host = None

    def process(self, input_data: Any, *others: Any) -> TSOLightCurveModel | QTable | None:
        """Measure an exposure.

        Parameters
        ----------
        input_data : str, path, model, array, or a list of them
            What `tso_level3.measure` takes; it is not changed.
        *others
            Further inputs of the same exposure, from `strun`; those of a hook are ignored.

        Returns
        -------
        TSOLightCurveModel, QTable or None
            As for `run`.

        Raises
        ------
        StepError
            The input or a parameter is wrong.
        """
        if self._host is None:
            if others:
                with in_one_sentence():
                    input_data = joined(input_data, *others)
            model = self._measure(input_data)
            if self.parent is None or getattr(self.parent, "takes_light_curve", False):
                self._save_further(model)
                return model
            self._save(model, input_data)
            return for_stacking(self.catalog)
        for exposure in exposures_of(input_data):
            try:
                self._save(self._measure(exposure), exposure)
            except StepError as error:
                # The host goes on without our product.
                log.error("No light curve from the hook of %s: %s", self._host.name, error)
        return None

    def settings(self) -> Settings:
        """Return the parameters in effect.

        Returns
        -------
        Settings
            The validated parameters.

        Raises
        ------
        StepError
            A parameter is wrong.
        """
        with in_one_sentence():
            return from_strings(self._parameters())

    def _parameters(self) -> dict[str, object]:
        return {item.name: _unpacked(getattr(self, item.name)) for item in fields_of()}

    def _measure(self, source: Any) -> TSOLightCurveModel:
        begun = time.perf_counter()
        settings = self.settings()
        with in_one_sentence():
            check_packages(settings)
            source = self._located(source)
            exposure = open_exposure(source, settings, gain=self._gain(source, settings))
            model = product.build(run(exposure, settings, progress=progress), take=True)
        if self.save_catalog or (self._host is None and self.parent is not None):
            self.catalog = official_table(model, exposure)
        if self.parent is None:
            self._input_filename = root_name(source, exposure.inputs) or self._input_filename
        log.info("%s, %.1f s", _summary(model), time.perf_counter() - begun)
        return model

    def _located(self, source: Any) -> Any:
        """Add ``input_dir`` to the names of files."""
        if isinstance(source, str):
            return self.make_input_path(source)
        if isinstance(source, (list, tuple)):
            return [self._located(item) if isinstance(item, str) else item for item in source]
        return source

    def _gain(self, source: Any, settings: Settings) -> Any:
        """Find the gain reference in CRDS, where the data need one."""
        if settings.gain is not None:
            return None
        first = first_member(source)
        if settings.unit is not None and normal_unit(settings.unit) != "DN/s":
            return None
        # Reading all metadata takes a quarter of a second, and few data are in DN/s.
        if settings.unit is None and unit_of_file(first) not in (None, "DN/s"):
            return None
        try:
            parameters, _ = self._get_crds_parameters(first)
        except (OSError, TypeError, ValueError):
            return None
        if settings.unit is None and parameters.get("meta.bunit_data") != "DN/s":
            return None
        return self.find_reference(first, "gain")

    # What is written

    def _save(self, model: TSOLightCurveModel, source: Any) -> None:
        """Save inside another step, under a name of its own."""
        self.finalize_result(model, self._reference_files_used)
        self._save_further(model, source)
        path = self._path(".asdf", source)
        log.info("Saved model in %s", model.save(path))

    def _save_further(self, model: TSOLightCurveModel, source: Any = None) -> None:
        def path_of(name: str) -> str:
            return self._path(ENDINGS[name], source)

        written = save_further(model, self.settings(), path_of, table=self.catalog)
        for name, path in written:
            log.info("Wrote %s: %s", _WORDS[name], path)

    def _path(self, ending: str, source: Any) -> str:
        """Return the path of a file, in the folder of the outermost step that has one."""
        base = self.output_file
        if base is None and source is not None:
            base = filename_of(source)
        path = self.make_output_path(basepath=base, ext=ending, suffix=self.suffix or "phot")
        if self._host is not None and self.search_attr("output_dir") is None:
            folder = self._host.search_attr("output_dir", default="")
            path = str(Path(folder).expanduser() / Path(path).name)
        return path


def _unpacked(value: object) -> object:
    """Remove the list that the specification puts around a list or an array."""
    if isinstance(value, list) and len(value) == 1 and np.ndim(value[0]) == 1:
        return list(value[0])
    return value


def _summary(model: TSOLightCurveModel) -> str:
    quoted, n_int, grade = model.quoted, len(model), model.record.grade
    what = "fit of the template" if quoted.kind == "psf" else f"radius {quoted.radius:g} pix"
    if np.isfinite(quoted.scatter):
        what += f", scatter {1e6 * quoted.scatter:.0f} ppm"
    what += "" if grade == "good" else f", {grade}"
    return f"{n_int} integration{'s' if n_int != 1 else ''} measured, {what}"
