"""Quality flags of an integration, and data-quality bits of the JWST pipeline."""

from enum import IntFlag

__all__ = ["DESCRIPTIONS", "DQ_BITS", "DQ_SETS", "Flag", "dq_mask", "names"]


class Flag(IntFlag):
    """Bits of the ``flags`` column of a light curve."""

    NO_TIME = 1 << 0
    TIME_FROM_HEADER = 1 << 1
    NO_BARYCENTRIC_TIME = 1 << 2
    UNREADABLE = 1 << 3
    ALL_BAD = 1 << 4
    CORRELATION_FAILED = 1 << 5
    GAUSS_FAILED = 1 << 6
    PSF_FAILED = 1 << 7
    GAUSS_NO_POSITION = 1 << 8
    FAINT = 1 << 9
    APERTURE_CUT = 1 << 10
    ANNULUS_SHORT = 1 << 11
    FILLED = 1 << 12
    OUTLIER = 1 << 13
    MISSING_IN_APERTURE = 1 << 14
    EVENT = 1 << 15
    SETTLING = 1 << 16
    NO_ERROR = 1 << 18
    IMAGE_CHANGED = 1 << 19


DESCRIPTIONS = {
    Flag.NO_TIME: "no time is known",
    Flag.TIME_FROM_HEADER: "time computed from the header, not from INT_TIMES",
    Flag.NO_BARYCENTRIC_TIME: "no barycentric time is known",
    Flag.UNREADABLE: "the file of this integration could not be read",
    Flag.ALL_BAD: "no good pixel around the star",
    Flag.CORRELATION_FAILED: "the cross-correlation has no peak inside the subframe",
    Flag.GAUSS_FAILED: "the Gaussian fit did not converge inside its bounds",
    Flag.PSF_FAILED: "the fit of the template did not converge",
    Flag.GAUSS_NO_POSITION: "the Gaussian centre does not measure the position (weak lens)",
    Flag.FAINT: "no star stands out from the noise, or it is too faint for a centre",
    Flag.APERTURE_CUT: "the largest aperture reaches beyond the frame, or the pixels that are read",
    Flag.ANNULUS_SHORT: "the annulus holds too few good pixels for its background",
    Flag.FILLED: "missing pixels inside the largest aperture were filled from the model",
    Flag.OUTLIER: "a pixel around the star departs from the model (cosmic ray)",
    Flag.MISSING_IN_APERTURE: "missing pixels inside the largest aperture were left out",
    Flag.EVENT: "an event (mirror tilt, jump) begins at this integration",
    Flag.SETTLING: "inside the settling ramp at the start of the exposure",
    Flag.NO_ERROR: "no error is known: one frame without errors, in a unit other than counts",
    Flag.IMAGE_CHANGED: "the star's image departs from the template; no outlier was filled",
}

#: Data-quality bits of the JWST pipeline that a setting may name; the first is bit 0.
DQ_BITS = {name: 1 << bit for bit, name in enumerate("""
    DO_NOT_USE SATURATED JUMP_DET DROPOUT OUTLIER PERSISTENCE AD_FLOOR CHARGELOSS
    UNRELIABLE_ERROR NON_SCIENCE DEAD HOT WARM LOW_QE RC TELEGRAPH NONLINEAR BAD_REF_PIXEL
    NO_FLAT_FIELD NO_GAIN_VALUE NO_LIN_CORR NO_SAT_CHECK UNRELIABLE_BIAS UNRELIABLE_DARK
    UNRELIABLE_SLOPE UNRELIABLE_FLAT OPEN ADJ_OPEN FLUX_ESTIMATED MSA_FAILED_OPEN
    OTHER_BAD_PIXEL REFERENCE_PIXEL
""".split())}  # fmt: skip

#: Sets of data-quality bits that have a name.
DQ_SETS = {
    "STRICT": ("DO_NOT_USE", "SATURATED", "NON_SCIENCE", "DEAD", "HOT", "WARM", "LOW_QE", "RC")
}


def names(value: int) -> list[str]:
    """List the names of the bits set in a value of the ``flags`` column.

    Parameters
    ----------
    value : int
        Value of the column.

    Returns
    -------
    list of str
        Names in the order of the bits.
    """
    return [str(flag.name) for flag in Flag if int(value) & flag]


def dq_mask(bits: tuple[str, ...]) -> int:
    """Turn names of data-quality bits into a mask.

    Parameters
    ----------
    bits : tuple of str
        Names as in `DQ_BITS` or `DQ_SETS`, in any case, or integers written as text.

    Returns
    -------
    int
        The bits together, 0 to 2**32 - 1.

    Raises
    ------
    ValueError
        A name is not known.
    """
    mask = 0
    for bit in bits:
        name = str(bit).strip().upper()
        if name.isdigit():
            mask |= int(name)
        elif name in DQ_BITS:
            mask |= DQ_BITS[name]
        elif name in DQ_SETS:
            mask |= dq_mask(DQ_SETS[name])
        else:
            raise ValueError(
                f"dq_bits: {bit!r} is not a data-quality bit; expected a number or one of "
                f"{', '.join((*DQ_BITS, 'strict'))}"
            )
    return mask & 0xFFFFFFFF
