"""Least squares without negative coefficients: SciPy's answer."""

import numpy as np
from scipy.optimize import nnls

from tso_level3.core.nonnegative import nonnegative


def test_as_scipy():
    rng = np.random.default_rng(5)
    kinds = set()
    for k in (1, 2, 3) * 100:
        design = np.abs(rng.normal(size=(40, k)))
        target = design @ rng.normal(size=k) + 0.1 * rng.normal(size=40)
        expected = nnls(design, target)[0]
        kinds.add((k, int((expected > 0).sum())))
        scale = max(np.abs(expected).max(), 1.0)
        np.testing.assert_allclose(
            nonnegative(design, target), expected, rtol=0, atol=1e-12 * scale
        )
    # every number of columns that are used was met
    assert kinds == {(k, used) for k in (1, 2, 3) for used in range(k + 1)}
