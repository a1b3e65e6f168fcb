"""What generates and steers: the Atheris target, smoke runs, and the command line."""

__version__ = "0.1.0"
