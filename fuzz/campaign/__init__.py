"""Campaigns: fuzzing for hours, and what they keep."""
