"""The level-3 pipeline: flags outliers in each segment, then measures the whole exposure."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jwst.associations.lib.dms_base import TSO_EXP_TYPES
from jwst.datamodels import ModelLibrary
from jwst.pipeline import Tso3Pipeline
from jwst.stpipe.utilities import invariant_filename
from stdatamodels import filetype
from stdatamodels.jwst import datamodels
from stdatamodels.jwst.datamodels import JwstDataModel

from tso_level3.product import catalog
from tso_level3.readers.listings import association_members
from tso_level3.stpipe.crds import CrdsOptional
from tso_level3.stpipe.errors import OneSentence, StepError, in_one_sentence
from tso_level3.stpipe.inputs import filename_of, first_member, joined, root_name
from tso_level3.stpipe.step import TSOPhotometryStep

__all__ = ["TSOLevel3Pipeline"]

log = logging.getLogger(__name__)

_IMAGING = {"NRC_TSIMAGE", "MIR_IMAGE", "NRC_IMAGE", "NIS_IMAGE", "FGS_IMAGE"}


@dataclass(frozen=True)
class _Members:
    """The science members of an association or of another input."""

    sources: Any
    product: str | None
    asn_id: str | None = None
    pool: str | None = None
    table: str | None = None
    alone: bool = False


class TSOLevel3Pipeline(CrdsOptional, OneSentence, Tso3Pipeline):
    """Apply level 3 processing to time series, imaging by this package's photometry.

    For imaging, outliers are flagged in each segment (``crfints``), and then all segments are
    measured together: ``<product>_phot.asdf``, and ``<product>_phot.ecsv`` in the form of the
    official product. Spectroscopy is processed by ``calwebb_tso3``.
    """

    class_alias = "tso_level3"

    spec = """
    """

    step_defs = {**Tso3Pipeline.step_defs, "tso_photometry": TSOPhotometryStep}

    measuring_steps = ("tso_photometry",)

    output_file: str | None

    #: The photometry step returns its model, not a table.
    takes_light_curve = True

    @classmethod
    def get_config_reftype(cls) -> str:
        """Return the CRDS type of the parameter reference: that of the official pipeline.

        Returns
        -------
        str
            ``pars-tso3pipeline``.
        """
        return f"pars-{Tso3Pipeline.__name__.lower()}"

    def process(self, input_data: Any, *others: Any) -> None:
        """Process an exposure.

        Parameters
        ----------
        input_data : str, path, dict, model, list, ModelContainer or ModelLibrary
            An association, or one or more ``calints``.
        *others
            Further ``calints`` of the same exposure, as `strun` hands them on.

        Raises
        ------
        StepError
            The input or a parameter is wrong.
        """
        with in_one_sentence():
            if others:
                input_data = self._listed(input_data, *others)
            members = self._members(input_data)
            parameters, _ = self._get_crds_parameters(_first(members.sources))
            if not _is_tso(parameters):
                raise StepError(
                    f"{filename_of(members.sources) or 'input'}: exposure type"
                    f" {parameters.get('meta.exposure.type')} with"
                    f" {parameters.get('meta.exposure.nints')} integration(s) found,"
                    " expected a time series"
                )
        if not _is_imaging(parameters):
            alone = isinstance(input_data, JwstDataModel) or members.alone
            if others:
                raise StepError(
                    f"{len(others) + 1} inputs found, expected one for spectra: an association"
                    " (asn_from_list -o asn.json --product-name NAME FILE [FILE ...])"
                )
            return super().process(members.sources if alone else input_data)
        log.info("Starting tso_level3 ...")
        with in_one_sentence():
            self._process_imaging(members)
        log.info("... ending tso_level3")
        # As calwebb_tso3: the products are saved, not returned.
        return None

    def _process_imaging(self, members: _Members) -> None:
        if self.output_file is None:
            self.output_file = members.product
        # outlier_detection reads both
        self.asn_id = members.asn_id
        self.outlier_detection.mode = "tso"
        self.outlier_detection.save_model = invariant_filename(self.outlier_detection.save_model)
        if self.outlier_detection.skip:
            log.info("outlier_detection is skipped: the calints are measured as they are")
            cleaned = _listed(members.sources)
        else:
            log.info("Performing outlier detection on %d input(s) ...", len(members.sources))
            cleaned = [self._flag_outliers(source) for source in _each(members.sources)]
        if self.tso_photometry.skip:
            log.info("tso_photometry is skipped: no light curve is made")
            return
        model = self.tso_photometry.run(cleaned if len(cleaned) > 1 else cleaned[0])
        if members.table is not None:
            model.meta.asn.pool_name = members.pool
            model.meta.asn.table_name = members.table
        saved = model.save(self.make_output_path(suffix="phot", ext="asdf"))
        log.info("Saved model in %s", saved)
        path = self.make_output_path(suffix="phot", ext="ecsv")
        table = self.tso_photometry.catalog
        table.meta["number_of_integrations"] = len(table)
        catalog.write(table, path)
        log.info("Writing Level 3 photometry catalog %s", path)

    def _flag_outliers(self, source: str | Path | JwstDataModel) -> str | Path | JwstDataModel:
        """Flag outliers in one segment; return the file of the result, else the model."""
        with ExitStack() as stack:
            given = isinstance(source, JwstDataModel)
            cube: Any = source if given else stack.enter_context(datamodels.open(source))
            if cube.data.ndim < 3:
                log.warning("%s: one image; outlier_detection is skipped", filename_of(source))
                return source
            if given and self.parent is None:
                cube = cube.copy()
            log.debug("Performing outlier detection on %s ...", filename_of(source))
            flagged = self.outlier_detection.run(cube)
            name = flagged.meta.filename
            if given and not (name and _complete(flagged)):
                return flagged
            # The file is read again later: memory holds one segment at a time.
            with flagged:
                if not _complete(flagged):
                    return source
                if self.asn_id is not None:
                    # Otherwise the id is in the name twice.
                    name = name.replace(f"_{self.asn_id}", "")
                path = self.save_model(
                    flagged, output_file=name, suffix="crfints", asn_id=self.asn_id
                )
        return str(Path(path).resolve())

    def _precache_references(self, input_file: Any) -> None:
        """Fetch reference files ahead; imaging needs a gain alone, which its step asks for."""
        try:
            parameters, _ = self._get_crds_parameters(first_member(input_file))
        except (OSError, TypeError, ValueError):
            return
        if not _is_imaging(parameters):
            super()._precache_references(input_file)

    def _listed(self, *inputs: Any) -> list:
        """Join several ``calints``; check that each file exists before the measurement."""
        out = []
        for item in joined(*inputs):
            if isinstance(item, (str, Path)):
                if str(item).lower().endswith(".json"):
                    raise ValueError(
                        f"{item}: an association found beside other inputs, expected one"
                        " association that holds all of them, or their names alone"
                    )
                item = self.make_input_path(str(item))
                if not Path(item).is_file():
                    raise FileNotFoundError(f"{item}: no such file, expected a calints")
            out.append(item)
        return out

    def _members(self, source: Any) -> _Members:
        """Find the science members without opening them."""
        table = None
        if isinstance(source, (str, Path)):
            source = self.make_input_path(str(source))
            if not Path(source).is_file():
                raise FileNotFoundError(
                    f"{source}: not found, expected an association or a calints"
                )
            if filetype.check(source) != "asn":
                return _Members([source], root_name(source, ()), alone=True)
            table = Path(source).name
            source = self.load_as_level3_asn(source)
        if isinstance(source, Mapping):
            members = association_members(source, Path(), table or "association")
            sources = [
                self.make_input_path(str(item)) if isinstance(item, Path) else item
                for item in members
            ]
            product = source["products"][0].get("name")
            return _Members(sources, product, source.get("asn_id"), source.get("asn_pool"), table)
        if isinstance(source, JwstDataModel):
            source = [source]
        asn = getattr(source, "asn_table", None) or getattr(source, "asn", None) or {}
        return _Members(source, root_name(source, ()), asn.get("asn_id"))


def _complete(model: JwstDataModel) -> bool:
    return model.meta.cal_step.outlier_detection == "COMPLETE"


def _each(sources: Any) -> Iterator[str | JwstDataModel]:
    if isinstance(sources, ModelLibrary):
        with sources:
            for index, model in enumerate(sources):
                yield model
                sources.shelve(model, index, modify=False)
    else:
        yield from sources


def _listed(sources: Any) -> list:
    return list(_each(sources))


def _first(sources: Any) -> Any:
    return first_member(sources) if isinstance(sources, list) else sources


def _is_imaging(parameters: Mapping[str, Any]) -> bool:
    kind = str(parameters.get("meta.exposure.type")).upper()
    return kind in _IMAGING and _is_tso(parameters)


def _is_tso(parameters: Mapping[str, Any]) -> bool:
    """Apply the rule of `jwst.lib.pipe_utils.is_tso` to metadata read without the model."""
    n_int = parameters.get("meta.exposure.nints")
    if n_int is not None and n_int < 2:
        return False
    kind = str(parameters.get("meta.exposure.type")).lower()
    return bool(parameters.get("meta.visit.tsovisit")) or kind in TSO_EXP_TYPES
