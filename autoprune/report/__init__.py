"""What a study found, as one page that opens anywhere, and its front as a picture for papers."""

from autoprune.report.content import Content, read_content
from autoprune.report.page import make_page, write_report

__all__ = ["Content", "make_page", "read_content", "write_report"]
