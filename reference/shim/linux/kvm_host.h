/* SPDX-License-Identifier: GPL-2.0-only */
/* What kvm_pgtable.h and the TLB maintenance take from kvm_host.h, what kernel code may expect of it (messages, locks, and
 * the like), and the boundary: from here on every PTE store and TLB call of a hosted file goes through kernel/boundary.c, so
 * that the file itself stays as it is. Barriers and TLBIs are caught as instructions (kernel/instructions.inc). */
#ifndef S2FUZZ_LINUX_KVM_HOST_H
#define S2FUZZ_LINUX_KVM_HOST_H

#include <linux/types.h>
#include <linux/bitmap.h>
#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/bug.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/jump_label.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/pfn.h>
#include <linux/pgtable.h>
#include <linux/preempt.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <asm/barrier.h>
#include <asm/cmpxchg.h>
#include <asm/rwonce.h>
#include <asm/hyp_image.h>
#include <asm/kvm_arm.h>
#include <asm/vdso/processor.h>
#include <s2fuzz/boundary.h>
#include <s2fuzz/cpus.h>

/* CONFIG_ARM64_HW_AFDBM is a program's choice: without it Linux does not compile the line that sets the bit, which a bit
 * of no value comes to as well. */
#undef VTCR_EL2_HA
#define VTCR_EL2_HA (s2fuzz_machine.hw_af ? 1 << 21 : 0)

typedef u64 kvm_pfn_t;
typedef u64 gpa_t;

struct kvm_pgtable;

struct kvm_mmu_memory_cache {
	int nobjs;
	void **objects;
};

struct kvm_vmid {
	atomic64_t id;
};

struct kvm_arch;

struct kvm_s2_mmu {
	struct kvm_vmid vmid;
	phys_addr_t pgd_phys;
	struct kvm_pgtable *pgt;
	u64 vtcr;
	struct kvm_mmu_memory_cache split_page_cache;
	struct kvm_arch *arch;
	u64 tlb_vttbr;
};

/* VTCR_EL2's value is the VM's in 6.1, and the MMU's own since; both are filled in. */
struct kvm_arch {
	struct kvm_s2_mmu mmu;
	u64 vtcr;
};

struct kvm {
	struct kvm_arch arch;
	rwlock_t mmu_lock;
	int srcu;
};

#define kvm_printk(level, format, ...) printk(level "kvm [0]: " format, ##__VA_ARGS__)
#define kvm_err(...) kvm_printk(KERN_ERR, __VA_ARGS__)
#define kvm_info(...) kvm_printk(KERN_INFO, __VA_ARGS__)
#define kvm_debug(...) kvm_printk(KERN_DEBUG, __VA_ARGS__)
#define KVM_BUG(condition, kvm, ...) ({ (void)(kvm); WARN_ONCE(condition, __VA_ARGS__); })
#define KVM_BUG_ON(condition, kvm) ({ (void)(kvm); WARN_ON_ONCE(condition); })

/* Who runs on the CPU, which the TLB maintenance asks for: no vCPU, one of this MMU, or one of another. */
struct kvm_vcpu {
	struct {
		struct kvm_s2_mmu *hw_mmu;
	} arch;
};

struct kvm_cpu_context {
	struct kvm_vcpu *__hyp_running_vcpu;
};

struct kvm_host_data {
	struct kvm_cpu_context host_ctxt;
};

DECLARE_PER_CPU(struct kvm_host_data, kvm_host_data);
#define host_data_ptr(field) (&this_cpu_ptr(&kvm_host_data)->field)

struct kvm_vcpu *kvm_get_running_vcpu(void);

/* Under both names: the kernel's own, which kernel/boundary.c has, and those of its two implementations. */
#define S2FUZZ_TLB_FUNCTIONS(prefix)									\
	void prefix##__kvm_tlb_flush_vmid(struct kvm_s2_mmu *mmu);					\
	void prefix##__kvm_tlb_flush_vmid_ipa(struct kvm_s2_mmu *mmu, phys_addr_t ipa, int level);	\
	void prefix##__kvm_tlb_flush_vmid_ipa_nsh(struct kvm_s2_mmu *mmu, phys_addr_t ipa, int level);	\
	void prefix##__kvm_tlb_flush_vmid_range(struct kvm_s2_mmu *mmu, phys_addr_t start,		\
						unsigned long pages);					\
	void prefix##__kvm_flush_cpu_context(struct kvm_s2_mmu *mmu);					\
	void prefix##__kvm_flush_vm_context(void);

S2FUZZ_TLB_FUNCTIONS()

#define kvm_call_hyp(f, ...) f(__VA_ARGS__)

extern unsigned int kvm_arm_vmid_bits;

/* What functions in kvm_mmu.h that nothing here calls are made of. */
enum { SCTLR_EL1, SCTLR_EL2 };
enum arm64_hyp_spectre_vector { HYP_VECTOR_DIRECT };

bool vcpu_is_el2(const struct kvm_vcpu *vcpu);
u64 vcpu_read_sys_reg(const struct kvm_vcpu *vcpu, int reg);
u64 read_sanitised_ftr_reg(u32 id);
int srcu_read_lock(int *srcu);
void srcu_read_unlock(int *srcu, int index);
int kvm_read_guest(struct kvm *kvm, gpa_t gpa, void *data, unsigned long len);
int kvm_write_guest(struct kvm *kvm, gpa_t gpa, const void *data, unsigned long len);

/* vmid.c: as many bits of VMID as the program says, memory, and the windows in which another CPU may come in between. */
#ifdef S2FUZZ_ALLOCATES_VMIDS
#include <linux/atomic.h>
#include <linux/gfp_types.h>
#include <linux/init.h>

#define get_vmid_bits(mmfr1) ((void)(mmfr1), s2fuzz_vmid_bits())

#undef raw_spin_lock_irqsave
#define raw_spin_lock_irqsave(lock, flags) do { s2fuzz_window(); local_irq_save(flags); spin_lock(lock); } while (0)
#define atomic64_cmpxchg_relaxed(v, old, new) ({ s2fuzz_window(); (atomic64_cmpxchg_relaxed)(v, old, new); })

void *s2fuzz_zalloc(unsigned long size);
void s2fuzz_free(const void *memory);
#define kcalloc(count, size, flags) s2fuzz_zalloc((count) * (size))
#define kfree(memory) s2fuzz_free(memory)
#endif

#ifndef S2FUZZ_UNRECORDED_STORES /* as reference/build/hosted.py says of a file */
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
#endif

#endif
