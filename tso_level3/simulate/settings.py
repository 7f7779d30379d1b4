"""Settings of a synthetic exposure, and presets of observing modes.

Fluxes and noise are in electrons per integration; gain, integration time and pixel area convert
them to the file's unit. Coordinates are 0-based with pixel centres at integers.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tso_level3.config.instruments import PIXEL_SCALES
from tso_level3.datatypes import KernelLike
from tso_level3.psf import kernel as psf_kernel

__all__ = ["PRESETS", "Simulation", "Tilt", "simulation"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tilt:
    """A mirror segment that moves during the exposure and stays there.

    Attributes
    ----------
    integration : int
        First integration (0-based) with the segment moved.
    segment : int
        The segment, 1 to 18, numbered as in `tso_level3.psf.pupil.segment_centers`.
    tip, tilt : float
        Slope of the wavefront along y and along x over the segment [rad], as
        `tso_level3.psf.pupil.segment_tilt` takes it.
    piston : float
        Path difference at its centre [m].
    """

    integration: int
    segment: int
    tip: float = 0.0
    tilt: float = 0.0
    piston: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulation:
    """Settings of a synthetic exposure; the same values give the same pixels.

    Attributes
    ----------
    instrument, detector, channel, module, filter, pupil : str
        As in the files' headers (``channel`` and ``module`` are ``N/A`` for MIRI).
    exp_type, subarray, readpatt : str
        As in the files' headers.
    n_int : int
        Number of integrations.
    shape : tuple of int
        (ny, nx) of a frame.
    segments : int
        Number of files the exposure is cut into.
    position : tuple of float or None
        Planned (x, y) of the star [px], written (1-based) as the SIAF reference point; None is
        the middle of the frame.
    offset : tuple of float
        Position of the star relative to ``position`` [px].
    jitter : float
        rms of the pointing, per axis and integration [px].
    drift : tuple of float
        Linear motion in x and y over the exposure, symmetrical about its middle [px].
    jumps : tuple of (integration, dx, dy)
        Shifts dx, dy of the pointing [px] from an integration (0-based) on.
    antenna_moves : tuple of (integration, length, dx, dy)
        The same for ``length`` integrations.
    settling : tuple of float
        Offset in x and y [px] at the start, which decays exponentially.
    settling_length : float
        Its e-folding time [integrations].
    flux : float
        Electrons of the star per integration, out of transit, in the whole PSF.
    flux_slope : float
        Relative linear change of the star's flux over the exposure.
    companions : tuple of (dx, dy, ratio)
        Constant stars at an offset [px] from the target, as a fraction of its flux.
    background : float
        Sky [electrons per pixel and integration].
    background_slope : float
        Relative linear change of the sky over the exposure.
    transit_depth : float
        Squared ratio of the radii; 0 is no transit.
    transit_duration : float or None
        Time from first to fourth contact [h]; None is 40 % of the exposure.
    transit_mid : float or None
        Mid-time after the start of the exposure [h]; None is the middle of the exposure.
    transit_impact : float
        Impact parameter in stellar radii.
    limb : tuple of float
        Coefficients of the quadratic limb-darkening law.
    read_noise, row_noise : float
        rms per pixel, and rms of an offset common to a row of one amplifier, with a 1/f spectrum
        along the slow direction [electrons].
    amplifiers : int
        Number of outputs side by side in x, each with row offsets of its own.
    excess_noise : float
        Factor on the photon noise's variance; slopes of two groups have 2.
    noise : bool
        False leaves out photon, read and row noise.
    cosmic_rays : float
        Mean number of hits left in an integration.
    cosmic_ray_charge : float
        Median charge of a hit [electrons].
    bad_fixed, bad_random : float
        Fraction of pixels that are bad in all integrations, and in one.
    bad_pixels : tuple of (x, y)
        Pixels that are bad in all integrations, beside the random ones.
    flat_error : float
        Relative error of the flat, the mean over pixels; goes into VAR_FLAT and ERR.
    flat_pattern : bool
        Multiply the scene by a fixed pattern of that size.
    variance_from : {'data', 'model'}
        VAR_POISSON of what was measured, as the pipeline has it, or of what was expected.
    kernel : {'jwst', 'gaussian'} or KernelLike
        Kernel of the stars.
    sigma : tuple of float
        Widths (x, y) of the Gaussian kernel [px].
    wavefront_rms : float
        rms of a random wavefront error of the segments [m], which the nominal kernel does not
        have.
    wavefront_seed : int or None
        Its seed; None is ``seed``.
    tilts : tuple of Tilt
        Mirror segments that move during the exposure.
    unit : {'MJy/sr', 'DN/s'}
        Unit of SCI and ERR.
    gain : float
        Electrons per DN.
    photmjsr : float
        MJy/sr for 1 DN/s.
    frame_time : float
        Time of one frame [s]; a group is a frame, and one frame is lost to the reset.
    ngroups : int
        Groups per integration.
    start_mjd : float
        Start of the exposure, MJD UTC [d].
    ra, dec, roll : float
        Direction of the target, and position angle of +y, east of north [deg].
    target : str
        Name of the target.
    program, observation, visit, exposure : int
        Numbers in the files' names and headers.
    int_times : {'segment', 'exposure'}
        Rows of INT_TIMES in a segment's file: its own, or all of them.
    seed : int
        Seed of the random numbers.

    Raises
    ------
    ValueError
        A value is out of its bounds; the message names it.
    """

    instrument: str = "NIRCAM"
    detector: str = "NRCA3"
    channel: str = "SHORT"
    module: str = "A"
    filter: str = "F210M"
    pupil: str = "CLEAR"
    exp_type: str = "NRC_TSIMAGE"
    subarray: str = "SUB64P"
    readpatt: str = "RAPID"
    n_int: int = 100
    shape: tuple[int, int] = (64, 64)
    segments: int = 1
    position: tuple[float, float] | None = None
    offset: tuple[float, float] = (0.23, -0.31)
    jitter: float = 0.005
    drift: tuple[float, float] = (0.01, -0.006)
    jumps: tuple[tuple[int, float, float], ...] = ()
    antenna_moves: tuple[tuple[int, int, float, float], ...] = ()
    settling: tuple[float, float] = (0.0, 0.0)
    settling_length: float = 30.0
    flux: float = 3e5
    flux_slope: float = 0.0
    companions: tuple[tuple[float, float, float], ...] = ()
    background: float = 20.0
    background_slope: float = 0.0
    transit_depth: float = 0.01
    transit_duration: float | None = None
    transit_mid: float | None = None
    transit_impact: float = 0.3
    limb: tuple[float, float] = (0.15, 0.20)
    read_noise: float = 12.0
    row_noise: float = 0.0
    amplifiers: int = 1
    excess_noise: float = 1.0
    noise: bool = True
    cosmic_rays: float = 0.0
    cosmic_ray_charge: float = 2000.0
    bad_fixed: float = 0.0
    bad_random: float = 0.0
    bad_pixels: tuple[tuple[int, int], ...] = ()
    flat_error: float = 0.002
    flat_pattern: bool = True
    variance_from: str = "data"
    kernel: str | KernelLike = "jwst"
    sigma: tuple[float, float] = (1.0, 1.0)
    wavefront_rms: float = 0.0
    wavefront_seed: int | None = None
    tilts: tuple[Tilt, ...] = ()
    unit: str = "MJy/sr"
    gain: float = 2.05
    photmjsr: float = 4.0
    frame_time: float = 0.05016
    ngroups: int = 10
    start_mjd: float = 60310.25
    ra: float = 217.3267
    dec: float = -3.4445
    roll: float = 115.0
    target: str = "SIMULATED-1"
    program: int = 9999
    observation: int = 1
    visit: int = 1
    exposure: int = 1
    int_times: str = "segment"
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("offset", "drift", "settling", "limb", "sigma", "shape"):
            value = tuple(getattr(self, name))
            if len(value) != 2:
                raise ValueError(f"{name} is {value!r}; a pair is expected")
            object.__setattr__(self, name, value)
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if value is None:
                continue
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} is {value!r}; expected {low:g} to {high:g}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected {' or '.join(map(repr, allowed))}"
                )
        if min(self.shape) < 3:
            raise ValueError(f"shape is {self.shape!r}; expected 3 pixels or more on each side")
        if self.segments > self.n_int:
            raise ValueError(
                f"segments is {self.segments}; expected no more than the {self.n_int} integrations"
            )
        if isinstance(self.kernel, str) and self.kernel not in ("jwst", "gaussian"):
            raise ValueError(f"kernel is {self.kernel!r}; expected 'jwst', 'gaussian' or a Kernel")
        self._check_places()

    def _check_places(self) -> None:
        """Raise an error for pixels and integrations that the exposure does not have."""
        ny, nx = self.shape
        for x, y in self.bad_pixels:
            if not (0 <= x < nx and 0 <= y < ny):
                raise ValueError(f"bad_pixels has {(x, y)!r}; expected x below {nx}, y below {ny}")
        for name, values in (("jumps", self.jumps), ("antenna_moves", self.antenna_moves)):
            for value in values:
                if not 0 <= value[0] < self.n_int:
                    raise ValueError(
                        f"{name} has integration {value[0]}; expected 0 to {self.n_int - 1}"
                    )
        for tilt in self.tilts:
            if not 0 <= tilt.integration < self.n_int:
                raise ValueError(
                    f"tilts has integration {tilt.integration}; expected 0 to {self.n_int - 1}"
                )
        if self.tilts and self.kernel != "jwst":
            raise ValueError("tilts need kernel 'jwst': no other kernel has a pupil")
        if self.wavefront_rms and self.kernel != "jwst":
            raise ValueError("wavefront_rms needs kernel 'jwst': no other kernel has a pupil")

    @property
    def planned_position(self) -> tuple[float, float]:
        """(x, y) of the reference point [px, 0-based]."""
        if self.position is not None:
            return (float(self.position[0]), float(self.position[1]))
        ny, nx = self.shape
        return ((nx - 1) / 2, (ny - 1) / 2)

    @property
    def integration_time(self) -> float:
        """Time in which charge is counted [s]."""
        return self.ngroups * self.frame_time

    @property
    def cadence(self) -> float:
        """From one integration's start to the next [s], the reset included."""
        return self.integration_time + self.frame_time

    @property
    def pixel_scale(self) -> float:
        """Side of a pixel [arcsec], as in the computed kernel."""
        if psf_kernel.known(self.instrument, self.filter, self.pupil):
            return psf_kernel.pixel_scale(self.instrument, self.filter, self.pupil, self.detector)
        return PIXEL_SCALES["MIRI" if self.channel == "N/A" else f"NIRCAM_{self.channel}"]

    @property
    def pixel_area(self) -> float:
        """Area of a pixel [sr]."""
        return math.radians(self.pixel_scale / 3600) ** 2

    @property
    def units_per_electron(self) -> float:
        """Factor from electrons of an integration to the file's unit."""
        rate = 1.0 / (self.gain * self.integration_time)
        return rate * self.photmjsr if self.unit == "MJy/sr" else rate

    @property
    def jy_per_electron(self) -> float:
        """Factor from electrons of an integration to Jy, for a sum over pixels."""
        return self.photmjsr * 1e6 * self.pixel_area / (self.gain * self.integration_time)

    @property
    def description(self) -> str:
        """One-line description."""
        ny, nx = self.shape
        name = self.filter if self.pupil in ("CLEAR", "N/A") else f"{self.filter}+{self.pupil}"
        return f"{self.instrument} {self.detector} {name}, {self.n_int} x {ny} x {nx}"


_BOUNDS = (
    ("n_int", 1, 10**7),
    ("segments", 1, 10**4),
    ("jitter", 0, 10),
    ("settling_length", 0.01, 1e6),
    ("flux", 0, 1e15),
    ("flux_slope", -0.9, 10),
    ("background", 0, 1e12),
    ("background_slope", -0.9, 10),
    ("transit_depth", 0, 0.99),
    ("transit_duration", 1e-9, 1e6),
    ("transit_mid", -1e6, 1e6),
    ("transit_impact", 0, 0.99),
    ("read_noise", 0, 1e9),
    ("row_noise", 0, 1e9),
    ("amplifiers", 1, 64),
    ("excess_noise", 0.01, 100),
    ("cosmic_rays", 0, 1e6),
    ("cosmic_ray_charge", 0, 1e9),
    ("bad_fixed", 0, 1),
    ("bad_random", 0, 1),
    ("flat_error", 0, 1),
    ("wavefront_rms", 0, 1e-5),
    ("gain", 1e-6, 1e6),
    ("photmjsr", 1e-12, 1e12),
    ("frame_time", 1e-6, 1e6),
    ("ngroups", 2, 10**6),
    ("start_mjd", 50000, 90000),
    ("ra", 0, 360),
    ("dec", -90, 90),
    ("program", 1, 99999),
    ("observation", 1, 999),
    ("visit", 1, 999),
    ("exposure", 1, 99999),
    ("seed", 0, 2**63),
)
_CHOICES = {
    "exp_type": ("NRC_TSIMAGE", "MIR_IMAGE"),
    "unit": ("MJy/sr", "DN/s"),
    "variance_from": ("data", "model"),
    "int_times": ("segment", "exposure"),
    "channel": ("SHORT", "LONG", "N/A"),
}

_LONG = {"detector": "NRCALONG", "channel": "LONG", "gain": 1.84, "background": 40.0}
_WLP8 = {"pupil": "WLP8", "flux": 8e7, "read_noise": 15.0, "ngroups": 4}
_SUB160P = {"subarray": "SUB160P", "shape": (160, 160), "frame_time": 0.27864}
_SUB400P = {"subarray": "SUB400P", "shape": (400, 400), "frame_time": 1.65796}
_MIRI = {
    "instrument": "MIRI",
    "detector": "MIRIMAGE",
    "channel": "N/A",
    "module": "N/A",
    "pupil": "N/A",
    "exp_type": "MIR_IMAGE",
    "subarray": "SUB128",
    "readpatt": "FASTR1",
    "shape": (128, 136),
    "frame_time": 0.119,
    "gain": 3.1,
    "flux": 1e6,
    "background": 2e4,
    "read_noise": 30.0,
}

#: Preset settings by name: observing modes, and the job shapes W1, W2, W3 of the benchmarks.
PRESETS: dict[str, dict[str, Any]] = {
    "F210M": {},
    "F444W": {**_LONG, "filter": "F444W", "photmjsr": 0.40},
    "WLP8": {**_WLP8, **_SUB160P},
    "WLP8-SUB64P": {**_WLP8},
    "WLP4": {**_WLP8, **_SUB160P, "filter": "WLP4", "pupil": "F212N", "photmjsr": 30.0},
    "F1500W": {**_MIRI, "filter": "F1500W", "photmjsr": 0.25},
    "W1": {"n_int": 10_000, "segments": 1},
    "W2": {**_WLP8, **_SUB160P, "n_int": 2000},
    "W3": {**_WLP8, **_SUB400P, "n_int": 500},
}


def simulation(preset: str = "F210M", **changes: Any) -> Simulation:
    """Make a `Simulation` from a preset, with some fields changed.

    Parameters
    ----------
    preset : str
        A key of `PRESETS`.
    **changes
        Fields of `Simulation`.

    Returns
    -------
    Simulation
        The settings.

    Raises
    ------
    ValueError
        Unknown preset or field, or a value out of bounds.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; expected one of {', '.join(PRESETS)}")
    names = {field.name for field in dataclasses.fields(Simulation)}
    for name in changes:
        if name not in names:
            raise ValueError(f"{name} is not a field of Simulation; there are {', '.join(names)}")
    return Simulation(**{**PRESETS[preset], **changes})
