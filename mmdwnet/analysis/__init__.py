"""Counting parameters and costs, the published tables and their figures; no task library at import."""
