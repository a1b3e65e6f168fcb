// SPDX-License-Identifier: GPL-2.0-only
/* What the tree's TLB maintenance finds on the CPU: the MMU under test, the host's and another guest's, and which vCPU
 * runs, if any. */
#define S2FUZZ_HOSTED_SIDE
#include <asm/kvm_pgtable.h>
#include <asm/kvm_arm.h>
#ifndef S2FUZZ_CALLS_ONLY
#include <asm/kvm_mmu.h>
#include <nvhe/mem_protect.h>
#include <s2fuzz/hyp_va.h>
#endif
#include "kernel.h"
#include "context.h"
#include "declared.h"

struct context context;
u64 s2fuzz_sysreg_hcr_el2;

#if !S2FUZZ_HAS_HOST_MMU
#define host_mmu host_kvm /* as it was called in 6.1 */
#endif

/* Of an MMU that is not under test. No table is walked there; the addresses only tell the two apart. */
#define HOST_ROOT 0x1000
#define FOREIGN_ROOT 0x2000

bool context_is_vhe(void)
{
	return context.kvm_mode == kvm_mode_vhe;
}

bool context_begins_in_guest(void)
{
	return context.vcpu == vcpu_own || (context.vcpu == vcpu_none && context.kvm_mode == kvm_mode_pkvm_host);
}

#ifdef S2FUZZ_CALLS_ONLY
void context_enter(void)
{
}
#else
static struct kvm_arch guest;
static struct kvm_s2_mmu *under_test;
static struct kvm_arch *arch_under_test;
static struct kvm_arch other; /* for another MMU of the VM, while a TLB function is called for that */
static struct kvm_s2_mmu *called_for;
static bool vhe;

struct host_mmu host_mmu;
DEFINE_PER_CPU(struct kvm_host_data, kvm_host_data);
DEFINE_STATIC_KEY_FALSE(kvm_protected_mode_initialized);

static struct kvm_arch foreign;
static struct kvm_vcpu vcpu;

struct kvm_vcpu *kvm_get_running_vcpu(void)
{
	return host_data_ptr(host_ctxt)->__hyp_running_vcpu;
}

/* What the kernel made has the kernel's pointers in it, which hyp code without VHE must convert. The MMU itself comes
 * converted, as from hyp-main.c, and so does a vCPU's: it is compared with that. */
static void make(struct kvm_arch *arch, bool by_kernel, phys_addr_t root, u64 vmid)
{
	memset(arch, 0, sizeof(*arch));
	arch->mmu.arch = by_kernel && !vhe ? s2fuzz_kernel_va(arch) : arch;
	arch->mmu.pgd_phys = root;
	arch->mmu.vmid.id.counter = vmid;
}

/* The MMU under test has no table yet. */
void context_enter(void)
{
	bool is_hosts = context.kvm_mode == kvm_mode_pkvm_host;

	arch_under_test = is_hosts ? &host_mmu.arch : &guest;
	under_test = &arch_under_test->mmu;

	vhe = context.kvm_mode == kvm_mode_vhe;
	kvm_arm_vmid_bits = context.vmid_bits;
	kvm_protected_mode_initialized.enabled = is_hosts || context.kvm_mode == kvm_mode_pkvm_guest;
	make(&guest, true, 0, context.vmid);
	make(&host_mmu.arch, false, is_hosts ? 0 : HOST_ROOT, is_hosts ? context.vmid : 0);
	make(&foreign, true, FOREIGN_ROOT, config.vmid + 1);
	vcpu.arch.hw_mmu = context.vcpu == vcpu_foreign ? &foreign.mmu : under_test;
	host_data_ptr(host_ctxt)->__hyp_running_vcpu = context.vcpu == vcpu_none ? NULL : &vcpu;
	s2fuzz_sysreg_hcr_el2 = HCR_HOST_VHE_FLAGS;
}

void context_show(u64 pgd_phys, u64 vtcr)
{
	under_test->pgd_phys = pgd_phys;
	under_test->vtcr = arch_under_test->vtcr = vtcr;
	called_for = under_test;
}

void context_call_for(u64 pgd_phys, u64 vtcr, u64 vmid)
{
	make(&other, true, pgd_phys, vmid);
	other.mmu.vtcr = other.vtcr = vtcr;
	called_for = &other.mmu;
}

S2FUZZ_TLB_FUNCTIONS(__kvm_nvhe_)
S2FUZZ_TLB_FUNCTIONS(__kvm_vhe_)

#define CALL(function, ...)						\
	if (vhe)							\
		__kvm_vhe_##function(__VA_ARGS__);			\
	else								\
		__kvm_nvhe_##function(__VA_ARGS__);			\
	break

void context_carry_out(enum tlb_call call, u64 a, u64 b)
{
	switch (call) {
	case TLB_VMID:
		CALL(__kvm_tlb_flush_vmid, called_for);
	case TLB_VMID_IPA:
		CALL(__kvm_tlb_flush_vmid_ipa, called_for, a, b);
#if S2FUZZ_HAS_TLB_NSH
	case TLB_VMID_IPA_NSH:
		CALL(__kvm_tlb_flush_vmid_ipa_nsh, called_for, a, b);
#endif
#if S2FUZZ_HAS_TLB_RANGE
	case TLB_VMID_RANGE:
		CALL(__kvm_tlb_flush_vmid_range, called_for, a, b);
#endif
	case TLB_CPU_CONTEXT:
		CALL(__kvm_flush_cpu_context, called_for);
	case TLB_VM_CONTEXT:
		CALL(__kvm_flush_vm_context);
	default:
		panic("a TLB function that this kernel lacks");
	}
}
#endif
