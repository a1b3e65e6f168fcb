// SPDX-License-Identifier: GPL-2.0-only
/* What the tree's TLB maintenance finds on the CPU: the MMU under test, the host's and another guest's, and which vCPU
 * runs, if any. */
#define S2FUZZ_HOSTED_SIDE
#include <asm/kvm_pgtable.h>
#include <asm/kvm_arm.h>
#ifndef S2FUZZ_CALLS_ONLY
#include <asm/kvm_mmu.h>
#include <nvhe/mem_protect.h>
#endif
#include "kernel.h"
#include "boundary.h"

#if !S2FUZZ_HAS_HOST_MMU
#define host_mmu host_kvm /* as it was called in 6.1 */
#endif

/* Of an MMU that is not under test. No table is walked there; the addresses only tell the two apart. */
#define HOST_ROOT 0x1000
#define FOREIGN_ROOT 0x2000

static struct kvm_arch guest;
static bool vhe;

bool context_is_vhe(void)
{
	return vhe;
}

#ifdef S2FUZZ_CALLS_ONLY
struct kvm_s2_mmu *context_reset(enum context_mode mode, enum running running, u64 vmid, u64 vmid_bits)
{
	memset(&guest, 0, sizeof(guest));
	guest.mmu.arch = &guest;
	return &guest.mmu;
}
#else
struct host_mmu host_mmu;
unsigned int kvm_arm_vmid_bits;
DEFINE_PER_CPU(struct kvm_host_data, kvm_host_data);
DEFINE_STATIC_KEY_FALSE(kvm_protected_mode_initialized);

static struct kvm_arch foreign;
static struct kvm_vcpu vcpu;

struct kvm_vcpu *kvm_get_running_vcpu(void)
{
	return host_data_ptr(host_ctxt)->__hyp_running_vcpu;
}

static void make(struct kvm_arch *arch, phys_addr_t root, u64 vmid)
{
	memset(arch, 0, sizeof(*arch));
	arch->mmu.arch = arch;
	arch->mmu.pgd_phys = root;
	arch->mmu.vmid.id.counter = vmid;
}

/* The MMU under test, without a table yet. */
struct kvm_s2_mmu *context_reset(enum context_mode mode, enum running running, u64 vmid, u64 vmid_bits)
{
	struct kvm_s2_mmu *mmu = mode == PKVM_HOST ? &host_mmu.arch.mmu : &guest.mmu;

	vhe = mode == VHE;
	kvm_arm_vmid_bits = vmid_bits;
	kvm_protected_mode_initialized.enabled = mode == PKVM_GUEST || mode == PKVM_HOST;
	make(&guest, 0, vmid);
	make(&host_mmu.arch, mode == PKVM_HOST ? 0 : HOST_ROOT, mode == PKVM_HOST ? vmid : 0);
	make(&foreign, FOREIGN_ROOT, vmid + 1);
	vcpu.arch.hw_mmu = running == VCPU_FOREIGN ? &foreign.mmu : mmu;
	host_data_ptr(host_ctxt)->__hyp_running_vcpu = running == VCPU_NONE ? NULL : &vcpu;
	s2fuzz_sysreg_hcr_el2 = HCR_HOST_VHE_FLAGS;
	return mmu;
}
#endif
