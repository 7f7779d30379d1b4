"""A product on one page of HTML (`page`, `write`)."""

from tso_level3.report.page import page, write

__all__ = ["page", "write"]
