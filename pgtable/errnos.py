"""The error numbers the kernel uses here, with Linux's values whatever system Python runs on.

Operations return them negated; 0 means success.
"""

from typing import Final

EPERM: Final = 1
ENOENT: Final = 2
EAGAIN: Final = 11
ENOMEM: Final = 12
EBUSY: Final = 16
EINVAL: Final = 22
ENOSPC: Final = 28
ERANGE: Final = 34
