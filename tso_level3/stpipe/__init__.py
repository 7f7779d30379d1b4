"""The step and the pipeline for stpipe; the only folder that imports jwst and stpipe."""
