"""Asks CRDS for parameters and references, and goes on without where CRDS cannot be used.

CRDS ends the process (`SystemExit`) where neither a server nor a cache can be reached, and waits
for an hour for a server that accepts and never answers. Neither may end a light curve, which needs
CRDS for the instrument teams' parameters and the gain alone.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configobj import ConfigObj
from crds.client import api
from crds.core import config, heavy_client
from crds.core.exceptions import CrdsError
from jwst.datamodels import ModelContainer, ModelLibrary
from jwst.stpipe.core import JwstStep
from stdatamodels.jwst.datamodels import JwstDataModel
from stpipe import crds_client

if TYPE_CHECKING:
    from stpipe import Step as Base
else:
    Base = object

__all__ = ["CrdsOptional", "ask", "is_set_up"]

log = logging.getLogger(__name__)

_OBSERVATORY = "jwst"
_VARIABLES = (
    "CRDS_PATH",
    "CRDS_PATH_SINGLE",
    "CRDS_CFGPATH",
    "CRDS_CFGPATH_SINGLE",
    "CRDS_SERVER_URL",
)
_SERVERLESS = "https://crds-serverless-mode.stsci.edu"

#: A server that does not answer for this time [s] is taken to be silent.
PATIENCE = 20
#: A set-up that failed is not tried again for this time [s].
PAUSE = 300.0

_failed: dict[tuple, float] = {}

# The bounds on waiting are states of the process: one thread asks at a time.
_asking = threading.RLock()


def is_set_up() -> bool:
    """Tell whether CRDS is set up.

    Returns
    -------
    bool
        True where a variable of CRDS names a cache or a server, or where the default cache exists.
    """
    if any(os.environ.get(name, "").strip() for name in _VARIABLES):
        return True
    return (Path(config.CRDS_DEFAULT_CACHE) / "config" / _OBSERVATORY).is_dir()


def ask(what: str, question: Callable[[], Any], otherwise: Any) -> Any:
    """Call a function of CRDS, and return a default where CRDS cannot be used.

    Parameters
    ----------
    what : str
        What is asked for, for the log.
    question : callable
        The function; it may raise `SystemExit`.
    otherwise : object
        The default.

    Returns
    -------
    object
        What the function returned, or the default.
    """
    if not is_set_up():
        log.debug("CRDS is not set up; going on without %s", what)
        return otherwise
    with _asking, _patience():
        here = _setup()
        if time.monotonic() - _failed.get(here, -PAUSE) < PAUSE:
            log.debug("CRDS did not answer a short while ago; going on without %s", what)
            return otherwise
        try:
            info = heavy_client.get_config_info(_OBSERVATORY)
        except (SystemExit, CrdsError, OSError) as error:
            _failed[here] = time.monotonic()
            log.warning("CRDS cannot be used (%s); going on without %s", _reason(error), what)
            return otherwise
        with _local_only(enabled=not info.connected):
            try:
                return question()
            except (SystemExit, CrdsError, OSError) as error:
                log.warning("CRDS has no %s (%s); going on without", what, _reason(error))
                return otherwise


def _setup() -> tuple:
    return (*(os.environ.get(name) for name in _VARIABLES), api.get_crds_server())


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        shown = ", ".join(
            f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)
        )
        return f"no server answers and no cache is readable; {shown or 'default cache'}"
    return " ".join(str(error).split())


@contextmanager
def _patience() -> Iterator[None]:
    """Limit each wait for the server, unless the user has set a limit."""
    before_socket, before = socket.getdefaulttimeout(), config.get_client_timeout_seconds()
    # CRDS writes its default of an hour into the environment, as if the user had said so.
    if before == int(config.CLIENT_TIMEOUT.default):
        config.CLIENT_TIMEOUT.set(PATIENCE)
    # Files are fetched without a timeout of their own.
    if before_socket is None:
        socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before_socket)
        config.CLIENT_TIMEOUT.set(before)


@contextmanager
def _local_only(*, enabled: bool) -> Iterator[None]:
    """Keep CRDS to its cache once the server was found silent: it is waited for once."""
    if not enabled:
        yield
        return
    before = api.get_crds_server()
    api.set_crds_server(_SERVERLESS)
    try:
        yield
    finally:
        api.set_crds_server(before)


class CrdsOptional(Base):
    """Lets a step or a pipeline run without CRDS; has to be the first base class."""

    @classmethod
    def _get_crds_parameters(cls, dataset: object) -> tuple[dict, str]:
        """Read the metadata that CRDS selects by; raise `ValueError` where there are none."""
        try:
            return super()._get_crds_parameters(dataset)
        except (OSError, TypeError, ValueError):
            raise
        except Exception as error:
            # A FITS file that no data model wrote raises KeyError here, and stpipe lets it pass.
            raise ValueError(f"{dataset}: no metadata of a JWST data model found") from error

    @classmethod
    def build_config(cls, input: object, **kwargs: Any) -> tuple[ConfigObj, str | None]:  # noqa: A002
        """Collect the parameters from CRDS, a parameter file and keywords.

        Parameters
        ----------
        input : object
            The input; CRDS is asked only where it can have metadata.
        **kwargs
            Parameters, or ``config_file``.

        Returns
        -------
        config : ConfigObj
            The parameters.
        config_file : str or None
            The parameter file.
        """
        return super().build_config(_with_metadata(input), **kwargs)

    @classmethod
    def _get_config_from_parameters(cls, crds_parameters: dict, crds_observatory: str) -> ConfigObj:
        """Look up the parameter reference."""
        question = super()._get_config_from_parameters
        return ask(
            f"the parameter reference {cls.get_config_reftype()}",
            lambda: question(crds_parameters, crds_observatory),
            cls._empty_config(),
        )

    def find_reference(self, dataset: object, kind: str) -> object:
        """Find a reference file, if there is one.

        Parameters
        ----------
        dataset : str, path or model
            What it is for.
        kind : str
            Its type, such as ``gain``.

        Returns
        -------
        str, model or None
            The override, or what CRDS selects; None where there is neither.
        """
        if self.get_ref_override(kind) is not None:
            found = self.get_reference_file(dataset, kind)
        else:
            question = super().get_reference_file
            found = ask(f"reference file of type {kind}", lambda: question(dataset, kind), None)
        return None if isinstance(found, str) and found.strip() in ("", "N/A") else found

    def _precache_references(self, input_file: object) -> None:
        """Fetch reference files ahead."""
        question = super()._precache_references
        ask("the reference files fetched ahead", lambda: question(input_file), None)

    def finalize_result(self, result: object, reference_files_used: list) -> None:
        """Write versions, reference files and log into the result.

        Parameters
        ----------
        result : object
            The step's result; nothing is done where it is not a data model.
        reference_files_used : list of (str, str)
            Type and name of each reference file.
        """
        if not isinstance(result, JwstDataModel):
            return
        # The step's form of this, also in a pipeline: with no reference files it asks CRDS nothing.
        JwstStep.finalize_result(self, result, [])
        if not reference_files_used:
            return
        tree = result.meta.instance.setdefault("ref_file", {})
        for kind, name in reference_files_used:
            tree.setdefault(kind, {})["name"] = name
        used = tree.setdefault("crds", {})
        used["sw_version"] = crds_client.get_svn_version()
        context = ask(
            "the name of the context", lambda: crds_client.get_context_used(_OBSERVATORY), None
        )
        if context is not None:
            used["context_used"] = context
            if self.parent is None:
                log.info("Results used CRDS context: %s", context)


def _with_metadata(given: object) -> object:
    """Return an input that can have metadata, else None: stpipe takes the truth value."""
    if isinstance(given, (str, JwstDataModel, ModelContainer, ModelLibrary)):
        return given
    if isinstance(given, Path):
        return str(given)
    if isinstance(given, (list, tuple)) and given and _with_metadata(given[0]) is not None:
        return given
    return None
