"""VMs and their stage-2 MMUs: each with a VMID, and a table of its own or one that it shares with others of its VM.

struct kvm_s2_mmu, as the thread "KVM: arm64: Factor out stage 2 page table data from struct kvm" (2020-04) made it.
That several MMUs share a root is that thread's design; in Linux an MMU has a table of its own. VTCR_EL2 describes the
hardware that a VM has, so that no MMU of it translates more bits of address than its first one.
"""

from collections.abc import Callable, Iterator

from pgtable.errnos import EBUSY, EINVAL, ENOENT, ENOSPC
from pgtable.memory import Memcache, PagePool
from pgtable.stage2 import Stage2
from pgtable.versions import LINUX_6_12, LinuxVersion
from pgtable.vtcr import ia_bits_of

_MIN_IA_BITS = 32
NO_VCPU = -1
"""In the place of a vCPU that ran, where none did."""
FIRST = 0
"""The number of the MMU that there is from the start: the first (canonical) one of the first VM."""


class S2Mmu:
    """One MMU. `number` tells it from all others; `vm` is that of the first MMU of its VM, and `table_number` that
    of the MMU whose table it was first.

    root: where TLB maintenance finds the table, also after it was destroyed; None before there was one.
    split_cache: the tables that `Stage2.split` may take. own_vmid: the VMID that it began with. last_vcpu_ran: by CPU,
    the vCPU that was the last to run there under this MMU.
    """

    __slots__ = (
        *("last_vcpu_ran", "number", "own_vmid", "root", "split_cache"),
        *("table", "table_number", "vm", "vmid", "vtcr"),
    )

    def __init__(
        self,
        number: int,
        vmid: int,
        vtcr: int,
        table: Stage2,
        split_cache: Memcache,
        table_number: int | None = None,
        vm: int = FIRST,
    ) -> None:
        self.number = number
        self.vm = vm
        self.vmid = self.own_vmid = vmid
        self.vtcr = vtcr
        self.table = table
        self.table_number = number if table_number is None else table_number
        self.root: int | None = table.root
        self.split_cache = split_cache
        self.last_vcpu_ran: dict[int, int] = {}


class Vms:
    """The VMs and their MMUs, which are numbered from FIRST on, whatever VM they are of; `most` is how many numbers
    there are. A VM is known by the number of its first MMU.

    Numbers are the caller's to give, and are never used again. A VMID stays taken when its MMU ends, or its VM, for
    TLBs may hold what they found under it. Operations return 0 or a negative errno.
    """

    def __init__(self, first: S2Mmu, vmid_bits: int, most: int, version: LinuxVersion = LINUX_6_12) -> None:
        self.in_use = first
        """What operations on tables work on."""
        self._mmus = {first.number: first}
        self._ever = [first]
        self._of_others: list[int] = []
        self._vmids = (1 << vmid_bits) - 1
        self._most = most
        self._version = version

    def __iter__(self) -> Iterator[S2Mmu]:
        """The MMUs that live, by number."""
        return (self._mmus[number] for number in sorted(self._mmus))

    @property
    def first(self) -> S2Mmu:
        """The first MMU of the VM in use."""
        return self._mmus[self.in_use.vm]

    def of(self, vm: int) -> list[S2Mmu]:
        """The MMUs of a VM, by number: none of one that has ended."""
        return [one for one in self if one.vm == vm]

    def sharing(self, mmu: S2Mmu) -> list[S2Mmu]:
        """The MMUs that share an MMU's table, by number, itself included: those that maintenance must reach."""
        return [one for one in self if one.table is mmu.table]

    def effective(self, vmid: int) -> int:
        """What a CPU's bits leave of a VMID."""
        return vmid & self._vmids

    def take(self, vmid: int) -> None:
        """A VM that is none of these has that VMID."""
        self._of_others.append(vmid)

    def _refused(self, number: int, vmid: int) -> int:
        """-ENOSPC where there is no such number; -EBUSY where another MMU has the VMID, or had it: TLBs may hold
        something under it."""
        if number >= self._most:
            return -ENOSPC
        taken = [taken for one in self._ever for taken in (one.vmid, one.own_vmid)] + self._of_others
        return -EBUSY if any(self.effective(one ^ vmid) == 0 for one in taken) else 0

    def _keep(self, mmu: S2Mmu) -> S2Mmu:
        self._ever.append(mmu)
        self._mmus[mmu.number] = mmu
        return mmu

    def add(
        self,
        number: int,
        vmid: int,
        ia_bits: int,
        make_vtcr: Callable[[int], int],
        make_table: Callable[[int], Stage2],
        split_cache: Memcache,
    ) -> tuple[int, S2Mmu | None]:
        """An MMU of the VM in use with a table of its own, which is still to be initialised; ia_bits 0 stands for those
        of the VM's first one. `make_vtcr` says VTCR_EL2 for so many bits of address, and `make_table` makes a table for
        a VTCR_EL2.

        -ENOSPC, -EBUSY as for any new one; -EINVAL for bits of address that the VM does not have, or, where VTCR_EL2 is
        the VM's, for any but its own.
        """
        ret = self._refused(number, vmid)
        if ret:
            return ret, None
        of_vm = ia_bits_of(self.first.vtcr)
        ia_bits = ia_bits or of_vm
        if not _MIN_IA_BITS <= ia_bits <= of_vm or (ia_bits != of_vm and not self._version.mmu_has_vtcr):
            return -EINVAL, None
        vtcr = make_vtcr(ia_bits)
        return 0, self._keep(S2Mmu(number, vmid, vtcr, make_table(vtcr), split_cache, vm=self.in_use.vm))

    def create(
        self,
        number: int,
        vmid: int,
        ia_bits: int,
        limit: int,
        make_vtcr: Callable[[int], int],
        make_table: Callable[[int], Stage2],
        split_cache: Memcache,
    ) -> tuple[int, S2Mmu | None]:
        """The first MMU of another VM, with a table that is still to be initialised; ia_bits 0 stands for those of the
        first VM. -ENOSPC, -EBUSY; -EINVAL for bits of address below 32 or beyond `limit`, the CPU's."""
        ret = self._refused(number, vmid)
        if ret:
            return ret, None
        if ia_bits and not _MIN_IA_BITS <= ia_bits <= limit:
            return -EINVAL, None
        vtcr = make_vtcr(ia_bits or ia_bits_of(self._mmus[FIRST].vtcr))
        return 0, self._keep(S2Mmu(number, vmid, vtcr, make_table(vtcr), split_cache, vm=number))

    def share(self, number: int, vmid: int, split_cache: Memcache) -> tuple[int, S2Mmu | None]:
        """An MMU that shares the table of the one in use. -ENOSPC, -EBUSY; -ENOENT where that has no table."""
        ret = self._refused(number, vmid)
        if ret:
            return ret, None
        of = self.in_use
        if of.table.root is None:
            return -ENOENT, None
        mmu = self._keep(S2Mmu(number, vmid, of.vtcr, of.table, split_cache, of.table_number, of.vm))
        mmu.root = of.root
        return 0, mmu

    def is_again(self) -> int | None:
        """What another initialisation of the MMU in use comes to where it has a table. An error of a VM's first
        one, for userspace makes a VM but once; of another it is legal in some versions. None where it has none any
        more: then it is to be initialised, after what TLBs may hold under its VMID was invalidated."""
        if self.in_use.table.root is None:
            return None
        return 0 if self._version.nested_again_is_fine and self.in_use is not self.first else -EINVAL

    def rooted(self) -> None:
        """The table of the MMU in use has a new root."""
        for one in self.sharing(self.in_use):
            one.root = one.table.root

    def free(self, mmu: S2Mmu, pool: PagePool) -> None:
        """End an MMU that is no VM's first, its table unless another one shares it (or there is none), and its split
        cache. What TLBs hold of it stays."""
        if self.in_use is mmu:
            self.in_use = self.first
        self._end(mmu, pool)

    def end(self, vm: int, pool: PagePool) -> None:
        """End a VM that is not the first: each of its MMUs, with all tables."""
        if self.in_use.vm == vm:
            self.in_use = self._mmus[FIRST]
        for mmu in self.of(vm):
            self._end(mmu, pool)

    def _end(self, mmu: S2Mmu, pool: PagePool) -> None:
        del self._mmus[mmu.number]
        if mmu.table.root is not None and not any(one.table is mmu.table for one in self):
            mmu.table.destroy()
        mmu.split_cache.drain(pool)
