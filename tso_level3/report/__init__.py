"""Report of a product as one page of HTML, and its plots."""

from tso_level3.report.page import page, write

__all__ = ["page", "write"]
