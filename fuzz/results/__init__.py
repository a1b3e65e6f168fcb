"""What a run came to, as files that other programs read: one module a format, all from one list of tests."""
