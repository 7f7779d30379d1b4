"""Whether a light curve can be used: good, doubtful or failed, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Signs", "Verdict", "verdict_of"]

# Parts of the integrations.
_SOME, _MOST = 0.05, 0.5
# Integrations whose scatter says something.
_LEAST = 10
# How far errors and scatter may disagree: a factor, and standard errors of the scatter.
_DISAGREE, _SURE, _SCATTER_ERROR = 1.5, 2.5, 0.87
# Parts of the flux that do not vary with the star.
_DILUTED, _UNEVEN = 0.01, 0.01
# A smaller part of an aperture beyond the frame moves little light.
_CUT = 0.01
# A star does not vary by this part of its flux from one integration to the next.
_LOST = 0.3
_FAINTEST = 3.0
# Parts of the flux that are filled, or missing in every integration.
_FILLED = 0.05
_FAR = 5.0


@dataclass(frozen=True)
class Signs:
    """What tells whether a light curve can be used.

    Attributes
    ----------
    n : int
        Integrations.
    failed, outside, changed : float
        Parts of them that were not measured, where the star is outside the quoted aperture, and
        whose image departs from the template.
    scatter, expected : float
        Relative scatter of the quoted flux, measured and expected; NaN where not known.
    signal : float
        Median of the quoted flux over its error.
    filled, missing : float
        Parts of the flux that are filled on the median, and that is missing in every integration.
    faint : bool
        Whether nothing there resembles a star.
    far : float
        Distance of the star from where it was asked for [pix]; NaN where nothing was asked.
    rejected : str
        What stands against the quoted light curve.
    diluted, uneven : float
        Parts of the quoted flux that are of other sources, and that an uneven sky may add or take.
    no_sky : bool
        Whether the background was to be subtracted and could not be.
    cut : float
        Part of the quoted aperture that is beyond the frame.
    """

    n: int
    failed: float
    outside: float
    changed: float
    scatter: float
    expected: float
    signal: float
    filled: float
    missing: float
    faint: bool
    far: float
    rejected: str
    diluted: float = 0.0
    uneven: float = 0.0
    no_sky: bool = False
    cut: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What a light curve is worth.

    Attributes
    ----------
    grade : str
        good, doubtful or failed.
    reasons : tuple of str
        Why it is not good, the gravest first.
    """

    grade: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.grade}: {'; '.join(self.reasons)}" if self.reasons else self.grade

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values.

        Returns
        -------
        dict
            ``grade`` and ``reasons``.
        """
        return {"grade": self.grade, "reasons": list(self.reasons)}


def verdict_of(signs: Signs) -> Verdict:
    """Say what a light curve is worth.

    Parameters
    ----------
    signs : Signs
        What was found.

    Returns
    -------
    Verdict
        The grade and the reasons.
    """
    fatal, grave = [], []
    for part, what in (
        (signs.failed, "were not measured"),
        (signs.outside, "have the star outside the quoted aperture"),
    ):
        if part > _SOME:
            (fatal if part > _MOST else grave).append(f"{part:.0%} of the integrations {what}")
    if signs.changed > _SOME:
        grave.append(
            f"the star's image changes: in {signs.changed:.0%} of the integrations it is unlike the"
            " template, and no cosmic rays are taken out"
        )
    if signs.n >= _LEAST and signs.scatter > _LOST:
        fatal.append(f"the flux scatters by {signs.scatter:.0%} from integration to integration")
    if signs.signal < _FAINTEST:
        fatal.append(f"no star stands out: the flux is {signs.signal:.1f} times its error")
    elif signs.faint:
        # A faint star is there in all integrations, a chance pattern is not.
        (fatal if signs.failed > _SOME else grave).append("the image hardly resembles a star")
    ratio = signs.scatter / signs.expected if signs.expected > 0 else float("nan")
    limit = _DISAGREE + _SURE * _SCATTER_ERROR / max(signs.n, 1) ** 0.5
    if signs.n >= _LEAST and not 1 / limit <= ratio <= limit and ratio == ratio:
        grave.append(f"the scatter is {ratio:.2g} times what the errors say")
    measured = round(signs.n * (1 - signs.failed))
    if 0 < measured < _LEAST:
        few = "1 integration" if measured == 1 else f"{measured} integrations"
        grave.append(f"noise cannot be judged from {few}, expected {_LEAST} or more")
    if signs.cut > _CUT:
        grave.append(
            f"{signs.cut:.0%} of the quoted aperture is beyond the frame: the star's motion changes"
            " its flux"
        )
    if signs.filled > _FILLED:
        grave.append(f"{signs.filled:.0%} of the flux is filled in")
    if signs.missing > _FILLED:
        grave.append(
            f"pixels that hold {signs.missing:.0%} of the flux are missing in every integration"
        )
    if signs.diluted > _DILUTED and not signs.rejected:
        grave.append(
            f"{signs.diluted:.0%} of the flux is of another source, which makes a transit as much"
            " shallower"
        )
    if signs.uneven > _UNEVEN:
        grave.append(
            f"the sky is uneven: flux, and the depth of a transit, are uncertain by"
            f" {signs.uneven:.1%} of themselves"
        )
    if signs.no_sky:
        grave.append("no annulus fits: what sky there is makes a transit shallower")
    if signs.rejected:
        grave.append(signs.rejected)
    if signs.far > _FAR:
        grave.append(f"the star is {signs.far:.1f} pixels from the position asked for")
    grade = "failed" if fatal else "doubtful" if grave else "good"
    return Verdict(grade, (*fatal, *grave))
