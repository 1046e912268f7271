"""The report of a run: one page, made from what mmengine writes and from a file of `RunReportHook`."""
