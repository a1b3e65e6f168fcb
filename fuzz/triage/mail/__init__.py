"""A finding as a mail."""
