/* SPDX-License-Identifier: GPL-2.0-only */
/* What kvm_pgtable.h takes from kvm_host.h, and the boundary: from here on every PTE store, barrier and TLB call of a
 * hosted file goes through kernel/boundary.c, so that the file itself stays as it is. */
#ifndef S2FUZZ_LINUX_KVM_HOST_H
#define S2FUZZ_LINUX_KVM_HOST_H

#include <linux/types.h>
#include <linux/bits.h>
#include <linux/bug.h>
#include <linux/pfn.h>
#include <linux/pgtable.h>
#include <linux/rcupdate.h>
#include <asm/barrier.h>
#include <asm/cmpxchg.h>
#include <asm/rwonce.h>
#include <asm/kvm_arm.h>

typedef u64 kvm_pfn_t;

struct kvm_pgtable;

/* Capacity as on arm64 (KVM_ARCH_NR_OBJS_PER_MEMORY_CACHE). */
#define S2FUZZ_MEMORY_CACHE_CAPACITY 40

struct kvm_mmu_memory_cache {
	int nobjs;
	void *objects[S2FUZZ_MEMORY_CACHE_CAPACITY];
};

/* VTCR_EL2's value is the VM's in 6.1, and the MMU's own since; both are filled in. */
struct kvm_arch {
	u64 vtcr;
};

struct kvm_s2_mmu {
	struct kvm_pgtable *pgt;
	struct kvm_arch *arch;
	u64 vtcr;
	struct kvm_mmu_memory_cache split_page_cache;
};

void __kvm_tlb_flush_vmid(struct kvm_s2_mmu *mmu);
void __kvm_tlb_flush_vmid_ipa(struct kvm_s2_mmu *mmu, phys_addr_t ipa, int level);
void __kvm_tlb_flush_vmid_ipa_nsh(struct kvm_s2_mmu *mmu, phys_addr_t ipa, int level);
void __kvm_tlb_flush_vmid_range(struct kvm_s2_mmu *mmu, phys_addr_t start, unsigned long pages);

#define kvm_call_hyp(f, ...) f(__VA_ARGS__)

enum s2fuzz_store { S2FUZZ_STORE_PLAIN, S2FUZZ_STORE_RELEASE, S2FUZZ_STORE_CMPXCHG };

void s2fuzz_pte_store(const volatile void *ptep, u64 value, enum s2fuzz_store kind);
void s2fuzz_dsb(const char *domain);
void s2fuzz_isb(void);

#undef WRITE_ONCE
#define WRITE_ONCE(x, val) do {							\
	s2fuzz_pte_store(&(x), (u64)(val), S2FUZZ_STORE_PLAIN);			\
	*(volatile __typeof__(x) *)&(x) = (val);				\
} while (0)

#undef smp_store_release
#define smp_store_release(p, v) do {						\
	s2fuzz_pte_store((p), (u64)(v), S2FUZZ_STORE_RELEASE);			\
	__atomic_store_n((p), (v), __ATOMIC_RELEASE);				\
} while (0)

#undef cmpxchg
#define cmpxchg(p, old, new) ({							\
	__typeof__(*(p)) __expected = (old);					\
	s2fuzz_pte_store((p), (u64)(new), S2FUZZ_STORE_CMPXCHG);		\
	__atomic_compare_exchange_n((p), &__expected, (new), 0,			\
				    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);	\
	__expected;								\
})

#undef dsb
#define dsb(domain) s2fuzz_dsb(#domain)

#undef isb
#define isb() s2fuzz_isb()

#endif
