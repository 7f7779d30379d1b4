"""Parameter files that come with the package, one per observing mode."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["parameters"]


def parameters(mode: str) -> Path:
    """Return the path of the parameter file of an observing mode.

    `strun` takes it in place of the step's name, ``TSOPhotometryStep.call`` as ``config_file``, and
    a pipeline as ``steps.tso_photometry.config_file``.

    Parameters
    ----------
    mode : str
        ``miri``, ``nircam-focused``, ``nircam-wlp4``, ``nircam-wlp8`` or ``nircam-wlp8-sub64p``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        There is no mode of that name.
    """
    folder = Path(str(files("tso_level3"))) / "config" / "pars"
    known = {path.stem: path for path in sorted(folder.glob("*.asdf"))}
    if mode not in known:
        raise ValueError(f"mode: {mode!r} found, expected one of {', '.join(known)}")
    return known[mode]
