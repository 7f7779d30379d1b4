"""Building the exposure's own model of the star: template, fits and noise until they agree."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.core.bad import Bad
from tso_level3.core.nodes import STEP, by_node, node_of
from tso_level3.core.peak import Correlator
from tso_level3.core.plan import Noise
from tso_level3.core.repair import find_and_fit
from tso_level3.core.shift import ShiftedImage, without_noise
from tso_level3.core.template import Fit, Template
from tso_level3.datatypes import KernelLike
from tso_level3.planning import noise as noise_model
from tso_level3.planning.empirical import fill_missing
from tso_level3.planning.noise_in_time import from_frames
from tso_level3.planning.pattern import find_pattern, suspect
from tso_level3.planning.zero_point import Place, place_kernel
from tso_level3.utils.stats import MAD, column_median, unclipped

__all__ = ["TemplateBuilder"]

log = logging.getLogger(__name__)

#: Fewer frames than this have no outliers in time and no scatter to learn from.
FEW = 5
_N_COMPONENTS, _N_EIGENIMAGES = 5, 16
# Below this width [pix] a pixel grid does not hold the image: only the kernel can move it.
_UNDERSAMPLED = 2.0
# Frames that the scatter in time of a pixel is taken from: its error is 8 %.
_SCATTER_FRAMES = 96
# Values that are worked on together: copies of the whole sample would be most of the memory.
_BLOCK = 250_000
# Nodes on the way of a frame of the sample: where the star moves, its place is known by then.
_TURNS = 4
# A star that moves by more than this [pix] is followed frame by frame from the start.
_DRIFTING = 0.6
# Frames in which the star is looked for before all are.
_TRIED = 16
# A defect moves the kernel's place, from which other defects are seen.
_PATTERN_ROUNDS = 3


class TemplateBuilder:
    """Alternates template, fits and noise until they agree.

    Parameters
    ----------
    sample : Sample
        The frames, and what is known of the star in them.
    settings : Settings
        The parameters.
    values : ndarray, (n, n_pixels)
        Used pixels of the sample; NaN where missing. `build` takes the fixed pattern off them.
    bad : Bad
        The missing ones.
    dead : ndarray, (n_pixels,), bool
        Pixels that are missing in most frames.
    taken : ndarray, (n_pixels,), optional
        The fixed pattern that was taken off the values already.
    """

    def __init__(
        self,
        sample: Any,
        settings: Settings,
        values: np.ndarray,
        bad: Bad,
        dead: np.ndarray,
        taken: np.ndarray | None = None,
    ) -> None:
        self.sample, self.settings = sample, settings
        self.values, self.bad, self.dead = values, bad, dead
        self.layout = sample.layout
        # Where the star fills the frame nothing tells a constant from the star.
        self.constant = settings.background != "none" and bool(self.layout.rings)
        keep = ~dead[bad.pixel]
        self.given = Bad(bad.frame[keep], bad.pixel[keep])
        self.ring = self._ring()
        self.lost = self.starless = False
        #: Of the sample; made by the first round.
        self.fit: Fit
        self.residuals = values
        self.scatter = np.full(values.shape[1], np.nan)
        self.start = sample.x, sample.y
        self.pattern = taken
        self.defect, self.doubtful, self.suspect = np.zeros((3, values.shape[1]), bool)
        self.response = np.ones(values.shape[1])

    def _ring(self) -> np.ndarray:
        """Background pixels to take the template's zero from."""
        rings = self.layout.rings
        if rings:
            return rings[0][~self.dead[rings[0]]]
        # Without an annulus the faintest tenth of the used pixels shows the level.
        mean = column_median(self.values)
        order = np.argsort(np.where(np.isfinite(mean), mean, np.inf))
        return order[: max(len(order) // 10, 1)]

    def build(self) -> tuple[Template, Noise]:
        """Build template and noise."""
        mean = column_median(self.values)
        self.level = self._level(mean) if self.constant else 0.0
        image = mean - self.level
        shifts = None
        first = None
        if not self.sample.has_errors and len(self.values) >= FEW:
            # What neighbouring frames differ by holds neither the pattern nor slow changes.
            first = np.diff(self.values, axis=0)[::2] / np.sqrt(2.0)
        noise = self._noise(image, first)
        template = self._template(image, noise)
        if len(self.values) >= 2:
            shifts = self._drift(template)
            if shifts is not None:
                image = self._registered(image, shifts)
            if shifts is not None or self.starless:
                template = self._template(image, noise)
        if len(self.values) >= FEW:
            image, template = self._without_pattern(image, template, noise, shifts)
        for step in range(3 if len(self.values) >= FEW else 1):
            self._fit(template, noise, shifts)
            if not self.starless and np.mean(~self.fit.ok) > 0.5:
                self.starless, shifts = True, None
                template = self._template(image, noise)
                self._fit(template, noise, None)
            noise = self._noise(image, self.residuals)
            if len(self.values) >= FEW:
                image = self._improved(template, noise, again=step > 0)
            template = self._template(image, noise)
        self._fit(template, noise, shifts)
        noise = self._with_limit(noise)
        departures = self.fit.model(template)
        np.subtract(self.values, departures, out=departures)
        sigma = self.settings.outlier_sigma
        limit = noise_model.with_changes(noise.limit, departures, sigma)
        return template, dataclasses.replace(noise, limit=limit)

    def _level(self, mean: np.ndarray) -> float:
        part = mean[self.ring]
        part = part[np.isfinite(part)]
        return float(np.median(part[unclipped(part, self.settings.background_sigma)]))

    def _template(self, image: np.ndarray, noise: Noise) -> Template:
        """Lay the image on the box, find the star in it and make it movable."""
        sample, layout = self.sample, self.layout
        box = layout.box
        full = np.full(box.shape, np.nan)
        full.reshape(-1)[layout.index] = np.where(self.dead | self.defect, np.nan, image)
        n_fit, fit = layout.n_fit, layout.fit
        unused = (self.dead | self.doubtful)[:n_fit]
        weights = np.where(unused, 0.0, 1.0 / noise.total[:n_fit])
        if not noise.known:
            weights = np.where(weights > 0, 1.0 / np.median(noise.total[:n_fit]), 0.0)
        # The kernel is placed without the defects.
        whole = np.where((self.defect | self.suspect)[:n_fit], 0.0, weights)
        cut = np.nan_to_num(full[fit.y - box.y :, fit.x - box.x :][: fit.ny, : fit.nx])
        grid = np.where(np.isfinite(image[:n_fit]), whole, 0.0).reshape(fit.ny, fit.nx)
        place = self._place(cut, grid)
        alone = (
            sample.kernel.kind not in ("gaussian", "empirical")
            and sample.fwhm < _UNDERSAMPLED
            and not sample.mode.weak_lens
        )
        u = np.arange(box.nx) + box.x - place.x
        v = np.arange(box.ny) + box.y - place.y
        star = place.flux * sample.kernel.evaluate(u, v)
        good = np.isfinite(full)
        rest = None
        if alone:
            full = np.where(good, full, star)
        else:
            # What the kernel leaves is smoother than the image: it is filled, and the noise of
            # the mean, which would pass for gradients, is taken out of it.
            rest = fill_missing(np.where(good, full - star, 0.0), good)
            full = np.where(good, full, star + rest)
            share = good.mean() / len(self.values)
            rest = without_noise(rest, share * float(noise.total[~self.dead].mean()))
        moved = ShiftedImage(
            full, (box.x, box.y), sample.kernel, place.x, place.y, place.flux, rest
        )
        flux = place.flux
        if sample.kernel.kind in ("gaussian", "empirical"):
            # Such a kernel does not know how much light there is: the image itself does.
            inside = full[fit.y - box.y :, fit.x - box.x :][: fit.ny, : fit.nx]
            flux = max(float(inside.sum()), 1e-300)
        return Template(
            image=moved,
            x=place.x,
            y=place.y,
            flux=flux,
            columns=layout.columns,
            rows=layout.rows,
            weights=weights,
            variance=noise.total[:n_fit],
            constant=self.constant,
            response=self.response if self.defect.any() else None,
            lost=self.starless,
        )

    def _without_pattern(
        self, image: np.ndarray, template: Template, noise: Noise, shifts: np.ndarray | None
    ) -> tuple[np.ndarray, Template]:
        """Take what stays in every frame off the values and off the mean image."""
        for _ in range(_PATTERN_ROUNDS):
            defects = self.defect.sum()
            rest, light = self._beside_kernel(image, template, shifts)
            # The pixel of the core that fits least may have misled the kernel's place.
            row, column = suspect(rest, light)
            self.suspect = row * rest.shape[1] + column == self.layout.index
            template = self._template(image, noise)
            static = self._find_pattern(image, template, noise, shifts)
            image = image - static
            if shifts is not None and self.defect.any():
                # A defect would leave its trace where the star has passed over it.
                kept = self.values[:, self.defect]
                self.values[:, self.defect] = np.nan
                image = self._registered(image, shifts)
                self.values[:, self.defect] = kept
            template = self._template(image, noise)
            if self.defect.sum() == defects:
                break
        self.suspect[:] = False
        return image, self._template(image, noise)

    def _beside_kernel(
        self, image: np.ndarray, template: Template, shifts: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give what frames have in common beside the kernel, and the kernel, each on the box."""
        layout, box = self.layout, self.layout.box
        u, v = np.arange(box.nx) + box.x - template.x, np.arange(box.ny) + box.y - template.y

        def star(sx: float, sy: float) -> np.ndarray:
            kernel: KernelLike = template.image.kernel or self.sample.kernel
            return template.image.flux * kernel.evaluate(u - sx, v - sy)

        if shifts is None:
            light = star(0.0, 0.0)
            rest = image - light.reshape(-1)[layout.index]
        else:
            light, left = np.zeros(box.shape), self.values - self.level
            for key, rows in by_node(np.stack(node_of(shifts[:, 0], shifts[:, 1]), axis=1)):
                moved = star(STEP * key[0], STEP * key[1])
                light += moved * (len(rows) / len(left))
                left[rows] -= moved.reshape(-1)[layout.index]
            rest = column_median(left)
        out = np.full(box.shape, np.nan)
        out.reshape(-1)[layout.index] = np.where(self.dead, np.nan, rest)
        return out, light

    def _find_pattern(
        self, image: np.ndarray, template: Template, noise: Noise, shifts: np.ndarray | None
    ) -> np.ndarray:
        """Find what stays in every frame, and take it off the values.

        Where the star moves, it is what the frames have in common beside the kernel.
        """
        layout = self.layout
        rest, light = self._beside_kernel(image, template, shifts)
        variance = np.full(rest.shape, float(np.median(noise.total)) / len(self.values))
        variance.reshape(-1)[layout.index] = noise.total / len(self.values)
        sky = self.level + (self.settings.background_level or 0.0)
        sky = max(sky, _sky_of(noise, image))
        # Beside the bright parts of a defocused image are dark ones, as wrong as they are.
        reach = 9 if self.sample.mode.weak_lens else 3
        found = find_pattern(rest, light, sky, variance, reach=reach)
        static, defect, response, doubtful = (
            plane.reshape(-1)[layout.index]
            for plane in (found.static, found.defect, found.response, found.doubtful)
        )
        self.response = np.where(defect & ~self.defect, response, self.response)
        self.defect, self.doubtful = self.defect | defect, self.doubtful | doubtful
        if static.any():
            self.values -= static
            self.pattern = static if self.pattern is None else self.pattern + static
        return static

    def _place(self, cut: np.ndarray, weights: np.ndarray) -> Place:
        sample, fit = self.sample, self.layout.fit
        place = place_kernel(
            cut,
            weights,
            sample.kernel,
            *self.start,
            origin=(fit.x, fit.y),
            constant=self.constant,
        )
        if place.converged:
            self.start = place.x, place.y
            return place
        if not self.lost:
            log.warning("The kernel's place on the mean image was not found; the peak is used.")
        self.lost = True
        inside = np.isfinite(place.flux) and place.flux > 0
        flux = place.flux if inside else max(float(cut.sum()), 1e-300)
        return dataclasses.replace(place, x=sample.x, y=sample.y, flux=flux)

    def _noise(self, image: np.ndarray, residuals: np.ndarray | None) -> Noise:
        """Make the noise from the best source there is."""
        layout = self.layout
        template = np.nan_to_num(image)
        if not self.sample.has_errors:
            if residuals is None:
                residuals = np.zeros((0, image.size))
            return from_frames(
                residuals,
                template,
                self.ring,
                layout.columns,
                layout.rows,
                electrons=self.sample.unit == "electron",
            )
        known, scale = self.sample.variance, self.sample.scale
        factor = np.asarray(scale).reshape(-1)[layout.index] if np.ndim(scale) else scale

        # A given background is subtracted already; its photons are noise all the same.
        pattern = 0.0 if self.pattern is None else self.pattern
        sky = self.level + (self.settings.background_level or 0.0) + pattern

        def mean(name: str) -> np.ndarray:
            return known[name].reshape(-1)[layout.index] * factor**2

        if "var_poisson" in known and "var_rnoise" in known:
            poisson, read = mean("var_poisson"), mean("var_rnoise")
            if np.nanmedian(poisson + read) > 0:
                return noise_model.from_parts(poisson, read, template, sky)
        return noise_model.from_errors(
            mean("errors"), template, sky, flat=self.sample.flat_in_errors
        )

    def _with_limit(self, noise: Noise) -> Noise:
        """Add the limit of outliers: the larger of the noise and the scatter in time."""
        limit = np.sqrt(noise.total)
        if len(self.values) >= FEW:
            limit = np.fmax(limit, self.scatter)
        else:
            limit = np.full_like(limit, np.inf)
        limit[self.dead] = np.inf
        return dataclasses.replace(noise, limit=limit)

    def _fit(self, template: Template, noise: Noise, shifts: np.ndarray | None) -> None:
        """Fit the sample, and keep the residuals with NaN for missing pixels."""
        limited = self._with_limit(noise)
        # The residuals of the round before make room for the new ones.
        self.residuals = np.zeros((0, 0))
        work = np.nan_to_num(self.values, copy=True, nan=0.0)
        work[:, self.dead] = 0.0
        sigma = self.settings.outlier_sigma if len(self.values) >= FEW else 0.0
        repaired = find_and_fit(
            template, work, self.given, limited.limit, sigma=sigma, start=shifts, turns=_TURNS
        )
        self.fit, residuals = repaired.fit, repaired.residuals
        residuals[repaired.bad.frame, repaired.bad.pixel] = np.nan
        residuals[:, self.dead] = np.nan
        residuals[~self.fit.ok] = np.nan
        self.residuals = residuals
        if len(self.values) >= FEW:
            self.scatter = _scatter(residuals)

    def _improved(self, template: Template, noise: Noise, *, again: bool) -> np.ndarray:
        """Add the mean residual, at the template's flux: the mean image without its blurring."""
        fit, residuals = self.fit, self.residuals
        # Moved back with the star, a defect would come to lie on other pixels.
        residuals[:, self.defect] = np.nan
        flux = np.where(fit.flux > 0, fit.flux, np.nan)[:, None]
        # Residuals are moved back by whole pixels. The fraction that is left blurs the correction
        # by a positive transfer function, so that a few rounds reach the same image.
        shift = np.rint(np.nan_to_num(np.stack([fit.x, fit.y], axis=1))).astype(int)
        means = []
        for part in _columns(residuals):
            scaled = self._moved_back(residuals, shift, part) if shift.any() else residuals[:, part]
            with np.errstate(invalid="ignore", divide="ignore"):
                means.append(_column_mean(scaled / flux))
        mean = np.nan_to_num(np.concatenate(means))
        if shift.any() and again and self.sample.mode.weak_lens:
            # Undoing a blur amplifies noise with each round: only what stands out goes on. In
            # focus the star is too small a part of the box to stand out of its mean spectrum.
            full = np.zeros(self.layout.box.shape)
            full.reshape(-1)[self.layout.index] = mean
            typical = float(noise.total[~self.dead].mean()) / len(residuals)
            clean = without_noise(full, typical, patterns=False)
            mean = clean.reshape(-1)[self.layout.index]
        new = template.node((0, 0)).terms[0] + mean
        return new - self._zero(new)

    def _moved_back(self, values: np.ndarray, shift: np.ndarray, part: slice) -> np.ndarray:
        """Move frames by whole pixels, and give some pixels; NaN where they say nothing."""
        index, (ny, nx) = self.layout.index, self.layout.box.shape
        place = np.full(ny * nx, -1)
        place[index] = np.arange(index.size)
        rows, columns = np.divmod(index[part], nx)
        out = np.full((len(values), len(rows)), np.nan)
        for sx, sy in np.unique(shift, axis=0):
            frames = np.flatnonzero((shift == (sx, sy)).all(axis=1))
            y, x = rows + sy, columns + sx
            inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
            source = np.where(inside, place[np.where(inside, y * nx + x, 0)], -1)
            known = np.flatnonzero(source >= 0)
            out[np.ix_(frames, known)] = values[np.ix_(frames, source[known])]
        return out

    def _zero(self, image: np.ndarray) -> float:
        if not self.constant:
            return 0.0
        part = image[self.ring]
        return float(np.median(part[unclipped(part, self.settings.background_sigma)]))

    def _drift(self, template: Template) -> np.ndarray | None:
        """Find how the star moves by the kernel alone; None where it hardly does."""
        layout, sample = self.layout, self.sample
        n_fit, fit = layout.n_fit, layout.fit
        good = (~self.dead[:n_fit]).astype(float)
        part = self.values[:, :n_fit] - self.level
        part = np.where(np.isfinite(part), part, template.node((0, 0)).terms[0][None, :n_fit])
        correlator = Correlator(
            sample.kernel,
            template.x,
            template.y,
            np.arange(fit.x, fit.x + fit.nx),
            np.arange(fit.y, fit.y + fit.ny),
            good,
        )

        def found(rows: np.ndarray) -> np.ndarray:
            peaks = correlator.peaks(rows, np.zeros(len(rows)), np.zeros(len(rows)))
            return np.stack([peaks.x, peaks.y], axis=1)

        def without_star(shifts: np.ndarray) -> bool:
            return np.isfinite(shifts).all(axis=1).mean() < 0.5

        # To follow a star that most frames do not have near here takes long, and leads nowhere.
        if without_star(found(part[:: -(-len(part) // _TRIED)])) or without_star(
            shifts := found(part)
        ):
            self.starless = True
            return None
        if np.diff(np.nanpercentile(shifts, [2, 98], axis=0), axis=0).max() < _DRIFTING:
            return None
        shifts -= np.nanmedian(shifts, axis=0)
        return np.nan_to_num(shifts)

    def _registered(self, image: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """Average the frames of a drifting star, each moved back by whole pixels.

        What the fractions blur is put right by the rounds that follow.
        """
        shift = np.rint(shifts).astype(int)
        middle = np.concatenate(
            [
                column_median(self._moved_back(self.values, shift, part) - self.level)
                for part in _columns(self.values)
            ]
        )
        middle = np.where(np.isfinite(middle), middle, image)
        return middle - self._zero(middle)

    def components(self, template: Template, noise: Noise) -> np.ndarray:
        """Find the leading principal components of the residuals, in standard errors."""
        n_fit = self.layout.n_fit
        rows = np.flatnonzero(np.isfinite(self.residuals[:, :n_fit]).any(axis=1))
        count = min(_N_COMPONENTS, len(rows) // 8)
        if count == 0:
            return np.zeros((0, n_fit))
        sigma = np.sqrt(noise.total[:n_fit])
        scaled = np.nan_to_num(self.residuals[rows, :n_fit]) / sigma
        scaled[:, self.dead[:n_fit]] = 0.0
        scaled -= np.median(scaled, axis=0)
        # The sample is smaller than the subframe: decompose the small side.
        values, left = np.linalg.eigh(scaled @ scaled.T)
        order = np.argsort(values)[::-1][:count]
        right = left[:, order].T @ scaled
        right /= np.linalg.norm(right, axis=1, keepdims=True) + 1e-300
        # A sign that does not depend on the machine.
        strongest = np.abs(right).argmax(axis=1)
        right *= np.sign(right[np.arange(count), strongest])[:, None]
        return right / sigma

    def eigenimages(self, template: Template, noise: Noise) -> np.ndarray:
        """Find the principal components of the normalised images, without flux and motion.

        The template's terms of width are among them: most slow changes are changes of width. They
        are functionals of the pixels, in standard errors, so that bright pixels weigh no more, and
        the sky no less, than what they say.
        """
        n_fit, fit = self.layout.n_fit, self.fit
        rows = np.flatnonzero(fit.ok)
        count = min(_N_EIGENIMAGES, len(rows) // 8)
        if count == 0:
            return np.zeros((0, n_fit))
        alive = np.where(self.dead[:n_fit], 0.0, 1.0 / np.sqrt(noise.total[:n_fit]))
        terms = template.node((0, 0)).terms[:, :n_fit]
        images = np.nan_to_num(self.residuals[rows, :n_fit])
        images += fit.coefficients[rows, 3:6] @ terms[3:6]
        images *= alive / fit.flux[rows, None]
        known, _ = np.linalg.qr(np.stack([*(terms[:3] * alive), alive], axis=1))
        images -= (images @ known) @ known.T
        images -= images.mean(axis=0)
        values, left = np.linalg.eigh(images @ images.T)
        right = left[:, np.argsort(values)[::-1][:count]].T @ images
        return np.linalg.qr(right.T)[0].T * alive


def _sky_of(noise: Noise, star: np.ndarray) -> float:
    """Sky a pixel by its photon noise: it may have been subtracted long before."""
    lit = noise.star > 0.3 * noise.star.max()
    if not lit.any():
        return 0.0
    slope = float(np.median(noise.star[lit] / np.maximum(star[lit], 1e-300)))
    return float(np.median(noise.rest - noise.read)) / slope if slope > 0 else 0.0


def _column_mean(values: np.ndarray) -> np.ndarray:
    good = np.isfinite(values)
    count = good.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(good, values, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan)


def _columns(values: np.ndarray) -> list[slice]:
    """Cut the columns into runs that are worked on together."""
    step = max(1, _BLOCK // max(len(values), 1))
    return [slice(first, first + step) for first in range(0, values.shape[1], step)]


def _scatter(residuals: np.ndarray) -> np.ndarray:
    """Estimate the scatter of columns about zero, from some of the frames."""
    rows = np.flatnonzero(np.isfinite(residuals).any(axis=1))
    # From both ends: the same frames in reversed order.
    taken = np.arange(0, len(rows), 2 * max(len(rows) // _SCATTER_FRAMES, 1) - 1)
    rows = rows[np.unique(np.concatenate([taken, len(rows) - 1 - taken]))]
    out = np.full(residuals.shape[1], np.nan)
    for part in _columns(residuals) if len(rows) else ():
        out[part] = MAD * column_median(np.abs(residuals[rows, part]))
    return out
