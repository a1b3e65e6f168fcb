"""The reference: Linux's own pgtable.c in a bare-metal test kernel under QEMU, and what builds and drives it."""
