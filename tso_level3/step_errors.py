"""Errors that `strun` shows as one sentence, with exit status 1 and without a traceback."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from jwst.stpipe.core import JwstStep
from stpipe.exceptions import StpipeExitException, ValidationError

from tso_level3.settings import fields_of, from_strings

__all__ = ["OneSentence", "StepError", "StepFileError", "check_parameters", "in_one_sentence"]

log = logging.getLogger(__name__)


class StepError(StpipeExitException, ValueError):
    """A parameter or an input is wrong; the text is one sentence.

    Parameters
    ----------
    sentence : str
        What was found where, and what was expected.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(1, sentence)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class StepFileError(StepError, OSError):
    """The same for a file that cannot be read or written."""


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
    """Check parameters before stpipe does, whose answer is a page of help.

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


def plain_values(values: Mapping[str, object]) -> dict[str, object]:
    """Bring parameters into forms that stpipe's validation takes.

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
        if isinstance(value, (np.ndarray, np.generic)):
            plain[name] = value.tolist()
        elif optional[name] and isinstance(value, str) and value.strip().lower() == "none":
            plain[name] = None
    return plain


class OneSentence:
    """Makes a step or a pipeline say what is wrong with its parameters, and be heard in the log."""

    #: Sections of a pipeline's configuration that hold parameters of the measurement.
    measuring_steps: tuple[str, ...] = ()

    @staticmethod
    def get_stpipe_loggers() -> tuple[str, ...]:
        """Name the loggers whose lines reach the terminal and ``cal_logs``.

        Returns
        -------
        tuple of str
            Those of jwst, and this package's.
        """
        return (*JwstStep.get_stpipe_loggers(), "tso_level3")

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
            for section in [config, *sections]:
                if section:
                    check_parameters(section)
                    section.update(plain_values(section))
            return super().from_config_section(config, *args, **kwargs)
