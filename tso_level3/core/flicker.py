"""Row noise at the level of slopes: medians of the template's residuals outside the star.

Correction of the groups before the slopes are fitted is better; this is for who has slopes only.
"""

from __future__ import annotations

import numpy as np

from tso_level3.core.plan import Plan
from tso_level3.core.template import Bad, fit_frames

__all__ = ["AMPLIFIER_WIDTH", "remove_flicker"]

#: Columns that one output amplifier reads in a full-width frame.
AMPLIFIER_WIDTH = 512
_LEAST = 8


def remove_flicker(values: np.ndarray, bad: Bad, plan: Plan) -> np.ndarray:
    """Take the row noise out of frames.

    Parameters
    ----------
    values : ndarray, (n, n_pixels)
        Frames, zero where bad.
    bad : Bad
        Missing pixels.
    plan : Plan
        The plan; its layout holds the rows to the edges of the frame.

    Returns
    -------
    ndarray, (n, n_pixels)
        Corrected frames. A row with fewer than 8 good pixels outside the star is left as it is.
    """
    layout, template = plan.layout, plan.template
    fit = fit_frames(template, values[:, : layout.n_fit], bad)
    residuals = values - fit.model(template)
    residuals[bad.frame, bad.pixel] = np.nan
    residuals[:, plan.dead] = np.nan
    out = values.copy()
    distance = np.hypot(layout.columns - template.x, layout.rows - template.y)
    outside = distance > plan.annuli[0].inner if plan.annuli else distance > plan.radii[-1]
    group = layout.rows.astype(np.int64)
    if plan.flicker == "amps":
        group = group * 8 + layout.columns // AMPLIFIER_WIDTH
    for key in np.unique(group):
        members = group == key
        pixels = np.flatnonzero(members & outside)
        if pixels.size < _LEAST:
            continue
        part = residuals[:, pixels]
        enough = np.isfinite(part).sum(axis=1) >= _LEAST
        level = np.zeros(len(values))
        level[enough] = np.nanmedian(part[enough], axis=1)
        out[:, members] -= level[:, None]
    out[bad.frame, bad.pixel] = 0.0
    return out
