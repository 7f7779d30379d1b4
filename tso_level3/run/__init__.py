"""Measuring all integrations of an exposure over a pool of workers, and judging the result."""
