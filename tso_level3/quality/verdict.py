"""Verdict on a light curve: good, doubtful or failed, with the reasons."""

from __future__ import annotations

from dataclasses import dataclass

from tso_level3.quality.noise import DIFFERENCE_ERROR

__all__ = ["Signs", "Verdict", "verdict_of"]

# Fractions of the integrations, for doubtful and failed.
_SOME, _MOST = 0.05, 0.5
# Minimum number of integrations for a scatter.
_LEAST = 10
# Largest ratio of scatter to errors: a factor, and standard errors of the scatter.
_DISAGREE, _SURE = 1.5, 2.5
# Largest fractions of the flux from other sources and an uneven sky.
_DILUTED, _UNEVEN = 0.01, 0.01
# A smaller relative change of the flux by slow motion is no matter.
_SWING = 1e-4
# Largest fraction of an aperture beyond the frame.
_CUT = 0.01
# Relative scatter at which there is no usable star, and least signal-to-noise.
_LOST = 0.3
_FAINTEST = 3.0
# Fraction of the flux that is filled or missing in every integration.
_FILLED = 0.05
_FAR = 5.0


@dataclass(frozen=True)
class Signs:
    """Indicators of the quality of a light curve.

    Attributes
    ----------
    n : int
        Number of integrations.
    failed, outside, changed : float
        Fractions of them without a measurement, with the star outside the primary aperture, and
        with an image that departs from the template.
    scatter, expected : float
        Relative scatter of the primary flux, measured and expected; NaN where unknown.
    signal : float
        Median of the primary flux over its error.
    filled, missing : float
        Fractions of the flux that are filled (median), and missing in every integration.
    faint : bool
        Whether the image does not resemble a star.
    far : float
        Distance of the star from the position asked for [pix]; NaN without one.
    rejected : str
        Objection to the primary light curve; empty where there is none.
    diluted, uneven : float
        Fractions of the primary flux from other sources, and by which an uneven sky may change it.
    neighbour : (float, float) or None
        Position of the brightest other source.
    no_sky : bool
        Whether the background could not be subtracted.
    cut : float
        Fraction of the primary aperture beyond the frame.
    swing : float
        Relative change of the flux in a fixed aperture by the star's slow motion.
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
    neighbour: tuple[float, float] | None = None
    no_sky: bool = False
    cut: float = 0.0
    swing: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """Verdict on a light curve.

    Attributes
    ----------
    grade : str
        good, doubtful or failed.
    reasons : tuple of str
        Why it is not good, the most serious first.
    """

    grade: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.grade}: {'; '.join(self.reasons)}" if self.reasons else self.grade


def verdict_of(signs: Signs) -> Verdict:
    """Judge a light curve by its indicators.

    Parameters
    ----------
    signs : Signs
        The indicators.

    Returns
    -------
    Verdict
        The grade and the reasons.
    """
    fatal: list[str] = []
    grave: list[str] = []
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
        # A faint star is in all integrations, a chance pattern is not.
        (fatal if signs.failed > _SOME else grave).append("the image hardly resembles a star")
    ratio = signs.scatter / signs.expected if signs.expected > 0 else float("nan")
    limit = _DISAGREE + _SURE * DIFFERENCE_ERROR / max(signs.n, 1) ** 0.5
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
        x, y = signs.neighbour or (float("nan"), float("nan"))
        grave.append(
            f"{signs.diluted:.0%} of the flux is of another source, the brightest at ({x:.1f},"
            f" {y:.1f}), which makes a transit as much shallower"
        )
    if signs.uneven > _UNEVEN:
        grave.append(
            f"the sky is uneven: flux, and the depth of a transit, are uncertain by"
            f" {signs.uneven:.1%} of themselves"
        )
    if signs.swing > max(signs.scatter, _SWING):
        grave.append(
            f"the star moves in the fixed aperture, which changes its flux by {signs.swing:.2%};"
            " with moving_centroid the aperture follows it"
        )
    if signs.no_sky:
        grave.append("no annulus fits: what sky there is makes a transit shallower")
    if signs.rejected:
        grave.append(signs.rejected)
    if signs.far > _FAR:
        grave.append(f"the star is {signs.far:.1f} pixels from the position asked for")
    grade = "failed" if fatal else "doubtful" if grave else "good"
    return Verdict(grade, (*fatal, *grave))
