"""A running test kernel: QEMU, its console, its memory, and the executor on top."""
