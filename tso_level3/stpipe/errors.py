"""Errors that `strun` shows as one sentence, with exit status 1 and without a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from jwst.stpipe.core import JwstStep
from stpipe.exceptions import StpipeExitException, ValidationError

from tso_level3.config.fields import nearest
from tso_level3.config.settings import fields_of, from_strings
from tso_level3.stpipe.hosts import is_strun

if TYPE_CHECKING:
    from stpipe import Pipeline as Base
else:
    Base = object

__all__ = [
    "OneSentence",
    "StepError",
    "StepFileError",
    "check_known",
    "check_parameters",
    "in_one_sentence",
    "plain_values",
]

log = logging.getLogger(__name__)


class StepError(StpipeExitException, ValueError):
    """A parameter or an input is wrong; the text is one sentence.

    Parameters
    ----------
    sentence : str
        The message.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(1, sentence)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class StepFileError(StepError, OSError):
    """A file cannot be read or written; the text is one sentence."""


@contextmanager
def in_one_sentence(*, logged: bool = False) -> Iterator[None]:
    """Turn errors of parameters and inputs into `StepError`.

    Parameters
    ----------
    logged : bool
        Whether to log the sentence, where nobody prints it: stpipe does so only while a step runs.

    Raises
    ------
    StepError, StepFileError
        In place of ValueError, TypeError, ImportError, stpipe's ValidationError, and OSError.
    """
    try:
        yield
    except StepError:
        raise
    except (ValueError, TypeError, ImportError, ValidationError, OSError) as error:
        sentence = _sentence(error)
        log.debug("where it happened", exc_info=True)
        if logged:
            log.error("%s", sentence)
        kind = StepFileError if isinstance(error, OSError) else StepError
        raise kind(sentence) from error


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return "; ".join(" ".join(line.split()) for line in str(error).splitlines() if line.strip())


def check_parameters(values: Mapping[str, object]) -> None:
    """Check parameters before stpipe does, which prints a page of help.

    Parameters
    ----------
    values : mapping
        Name to value; names that are not parameters of the measurement are left alone.

    Raises
    ------
    StepError
        A value is wrong.
    """
    known = {item.name for item in fields_of()}
    with in_one_sentence(logged=True):
        from_strings({name: value for name, value in values.items() if name in known})


def check_known(given: Iterable[str], known: Iterable[str]) -> None:
    """Check that a step has the parameters that are given to it, before stpipe does.

    Parameters
    ----------
    given : iterable of str
        Their names.
    known : iterable of str
        Those it has.

    Raises
    ------
    StepError
        One is unknown; the sentence says which may have been meant.
    """
    known = {*known, "name", "class", "config_file", "parent", "steps", "_validate_kwds"}
    with in_one_sentence(logged=True):
        for name in given:
            if name not in known:
                raise StepError(f"{name}: not a parameter{nearest(name, known)}")


def plain_values(values: Mapping[str, object]) -> dict[str, object]:
    """Convert parameters to forms that stpipe's validation accepts.

    Parameters
    ----------
    values : mapping
        Name to value; those that are not parameters of the measurement are left alone.

    Returns
    -------
    dict
        The same with lists for arrays, and None for the word.
    """
    optional = {item.name: item.default is None for item in fields_of()}
    plain = dict(values)
    for name, value in values.items():
        if name not in optional:
            continue
        if hasattr(value, "to_value"):  # a Quantity, which checks its unit
            plain[name] = np.asarray(getattr(from_strings({name: value}), name)).tolist()
        elif isinstance(value, (np.ndarray, np.generic)):
            plain[name] = value.tolist()
        elif optional[name] and isinstance(value, str) and value.strip().lower() == "none":
            plain[name] = None
    return plain


class _ParametersAtDebug(logging.Filter):
    """Lowers stpipe's list of all parameters from INFO to DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.INFO and str(record.msg).startswith("Step %s parameters are"):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return True


@contextmanager
def _parameters_at_debug() -> Iterator[None]:
    """Keep fifty lines of parameters from a terminal; they are in the product too."""
    logger, demotion = logging.getLogger("stpipe.step"), _ParametersAtDebug()
    logger.addFilter(demotion)
    try:
        yield
    finally:
        logger.removeFilter(demotion)


@contextmanager
def _exit_with_sentence() -> Iterator[None]:
    """End `strun` with one sentence in place of a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        log.error("interrupted")
        raise SystemExit(130) from None
    except StepError as error:
        log.error("%s", error)
        raise SystemExit(error.exit_status) from None
    except Exception as error:
        log.debug("where it happened", exc_info=True)
        kind = type(error).__name__
        log.error("%s: %s; --verbose shows where it happened", kind, _sentence(error))
        raise SystemExit(1) from None


class OneSentence(Base):
    """Reports wrong parameters of a step or a pipeline in one sentence, and logs its lines."""

    #: Sections of a pipeline's configuration that hold parameters of the measurement.
    measuring_steps: tuple[str, ...] = ()

    @staticmethod
    def get_stpipe_loggers() -> tuple[str, ...]:
        """Return the names of the loggers that reach the terminal and ``cal_logs``.

        Returns
        -------
        tuple of str
            Those of jwst, and this package's.
        """
        return (*JwstStep.get_stpipe_loggers(), "tso_level3")

    def run(self, *args: Any) -> Any:
        """Run, with parameters logged at DEBUG; in `strun` an error is the last line.

        Parameters
        ----------
        *args
            The inputs.

        Returns
        -------
        object
            What ``process`` returned.

        Raises
        ------
        SystemExit
            In `strun`, in the place of an error.
        """
        whole = self.parent is None and getattr(self, "_host", None) is None
        # The debugger of stpipe needs the error itself.
        ends = whole and is_strun() and "--debug" not in sys.argv
        with _exit_with_sentence() if ends else nullcontext(), _parameters_at_debug():
            return super().run(*args)

    @classmethod
    def from_config_section(cls, config: Any, *args: Any, **kwargs: Any) -> OneSentence:
        """Make an instance from parameters, whether from a file, CRDS or the command line.

        Parameters
        ----------
        config : ConfigObj or dict
            The parameters.
        *args, **kwargs
            As for stpipe.

        Returns
        -------
        OneSentence
            An instance of the class.

        Raises
        ------
        StepError
            A parameter is wrong.
        """
        with in_one_sentence(logged=True):
            sections = [config.get("steps", {}).get(name) for name in cls.measuring_steps]
            known = [cls.load_spec_file()]
            known += [cls.step_defs[name].load_spec_file() for name in cls.measuring_steps]
            for section, names in zip([config, *sections], known):
                if section:
                    check_known(section, names)
                    check_parameters(section)
                    section.update(plain_values(section))
            return super().from_config_section(config, *args, **kwargs)
