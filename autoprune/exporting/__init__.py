"""Export: a network as one file for other runtimes, read back and compared before it takes its place."""

from autoprune.exporting.exported import FORMATS, Exported, check_export, export

__all__ = ["FORMATS", "Exported", "check_export", "export"]
