"""The Linux versions the model knows, and the facts in which they differ.

Code that depends on a version asks here; nothing else names a version.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class LinuxVersion:
    """One version of the kernel's page-table code.

    name: as users write it, for example "6.12".
    pgtable_sha256: of the arch/arm64/kvm/hyp/pgtable.c that the model was verified against. Another
        file of the same version may behave differently.
    max_owner_id: the highest owner id that `set_owner` accepts (KVM_MAX_OWNER_ID, kvm_pgtable.h).
    range_tlbi: whether the code invalidates by range where the CPU can; only then does unmap put
        off the invalidation of leaves until its walk is over.
    """

    name: str
    pgtable_sha256: str
    max_owner_id: int
    range_tlbi: bool


LINUX_6_12: Final = LinuxVersion(
    name="6.12",
    pgtable_sha256="502777920ac90618ee53c4de4e031b81bc6a1f4bfb75b5f8f0b061a181284b25",
    max_owner_id=1,
    range_tlbi=True,
)

VERSIONS: Final[dict[str, LinuxVersion]] = {version.name: version for version in (LINUX_6_12,)}
