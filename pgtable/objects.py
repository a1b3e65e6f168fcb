"""The two objects that Linux builds pgtable.c as, and what they differ in.

Code that depends on it asks here; nothing else names an object.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KernelObject:
    """One of them.

    name: as users write it.
    shared_walks: whether tables may be walked while others change them. That takes RCU, which only the host has; in
        hyp's object such walks are -EPERM, before their range is looked at.
    """

    name: str
    shared_walks: bool


HOST: Final = KernelObject("host", shared_walks=True)
"""The kernel proper: guests' stage 2."""
HYP: Final = KernelObject("hyp", shared_walks=False)
"""What runs at EL2 without VHE (__KVM_NVHE_HYPERVISOR__): pKVM's stage 2 of the host, hyp's own stage 1."""

OBJECTS: Final[dict[str, KernelObject]] = {one.name: one for one in (HOST, HYP)}
"""By name."""
