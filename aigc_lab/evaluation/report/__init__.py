"""report.html: one self-contained file that can be read offline and sent to anyone."""

from aigc_lab.evaluation.report.page import write_report

__all__ = ["write_report"]
