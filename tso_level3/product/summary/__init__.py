"""A product in words: its main facts, its lists, and both as text or as HTML for notebooks."""

from tso_level3.product.summary.text import brief, html_summary, summary_lines

__all__ = ["brief", "html_summary", "summary_lines"]
