// SPDX-License-Identifier: GPL-2.0-only
/* The allocator of VMIDs (the tree's vmid.c), the structures that it serves, and what it asks of the kernel. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"
#include <linux/percpu.h>
#include <s2fuzz/cpus.h>
#include "../vmids.h"

DECLARE_PER_CPU(atomic64_t, active_vmids);
DECLARE_PER_CPU(u64, reserved_vmids);

#ifndef S2FUZZ_MADE
/* Not in the shim, for a tree's own may differ: it lacks the ops then. */
int kvm_arm_vmid_alloc_init(void);
void kvm_arm_vmid_alloc_free(void);
void kvm_arm_vmid_update(struct kvm_vmid *kvm_vmid);
void kvm_arm_vmid_clear_active(void);
#endif

static struct kvm_vmid owners[S2FUZZ_VMID_OWNERS];
/* Whom a CPU runs, counted from 1; 0: nobody. */
static u64 runs[S2FUZZ_MOST_CPUS];
static enum { NOT_YET, BEGUN, ENDED } state;

/* What another CPU does in a window, counted from the next one; 0: nothing. `meanwhile` is the VMID that it got then. */
static struct {
	u64 nth, cpu, owner;
} race;
static __maybe_unused u64 meanwhile;

void vmids_reset(void)
{
	state = NOT_YET;
}

/* What there is before a vmid_init, which nothing asks for without one. */
static void begin(void)
{
	memset(owners, 0, sizeof(owners));
	memset(runs, 0, sizeof(runs));
	race.nth = 0;
	state = BEGUN;
}

unsigned int s2fuzz_vmid_bits(void)
{
	return vmid_bits();
}

u64 read_sanitised_ftr_reg(u32 id)
{
	return id == SYS_ID_AA64MMFR1_EL1 && vmid_bits() == 16 ? 2ul << ID_AA64MMFR1_EL1_VMIDBits_SHIFT : 0;
}

/* The only memory that the allocator asks for: a bit for each VMID, and one for the VMID that there is not. */
static unsigned long map[BIT(16) / 64 + 1];

void *s2fuzz_zalloc(unsigned long size);
void *s2fuzz_zalloc(unsigned long size)
{
	count_boundary();
	if (fault_fails_now())
		return NULL;
	if (size > sizeof(map))
		panic("a map of more VMIDs than there are");
	return memset(map, 0, size);
}

void s2fuzz_free(const void *memory);
void s2fuzz_free(const void *memory)
{
	count_boundary();
	if (memory != map)
		op_complain(COMPLAINT_POOL, MISUSE_BAD_FREE, 0, NULL);
}

/* linux/bitmap.h, linux/find.h: what the kernel has in lib/. */
unsigned long *bitmap_zalloc(unsigned int bits, gfp_t flags)
{
	return s2fuzz_zalloc(BITS_TO_LONGS(bits) * sizeof(long));
}

void bitmap_free(const unsigned long *bitmap)
{
	s2fuzz_free(bitmap);
}

void __bitmap_clear(unsigned long *bitmap, unsigned int start, int count)
{
	for (u64 bit = start; count-- > 0; bit++)
		bitmap[bit / 64] &= ~BIT(bit % 64);
}

unsigned long _find_next_zero_bit(const unsigned long *bitmap, unsigned long bits, unsigned long start)
{
	while (start < bits && bitmap[start / 64] >> start % 64 & 1)
		start++;
	return start < bits ? start : bits;
}

#ifdef S2FUZZ_MADE
/* For the kernel's own build, whose headers take all of this for granted. */
extern atomic64_t vmid_generation;
struct cpumask __cpu_possible_mask;
unsigned int nr_cpu_ids = S2FUZZ_MOST_CPUS;

/* A CPU that is asked has 8 bits at least. So as not to be told so late that KVM has begun with those, what it asks once
 * then, how many CPUs there are, is answered with as many more as there are VMIDs too many. */
static u64 too_many(void)
{
	return vmid_bits() < 8 ? BIT(8) - BIT(vmid_bits()) : 0;
}

static void begin_with_few(void)
{
	if (too_many()) {
		kvm_arm_vmid_bits = vmid_bits();
		atomic64_set(&vmid_generation, BIT(vmid_bits()));
	}
}

unsigned int __bitmap_weight(const unsigned long *bitmap, unsigned int bits)
{
	return s2fuzz_cpus + too_many();
}

unsigned long _find_next_bit(const unsigned long *bitmap, unsigned long bits, unsigned long start)
{
	return start < s2fuzz_cpus ? start : bits;
}

/* By their names as symbols: Linux declares them with sections of their own, or as macros. */
unsigned long s2fuzz_lock_irqsave(void *lock) asm("_raw_spin_lock_irqsave");
unsigned long s2fuzz_lock_irqsave(void *lock)
{
	s2fuzz_window();
	return 0;
}

void s2fuzz_unlock_irqrestore(void *lock, unsigned long flags) asm("_raw_spin_unlock_irqrestore");
void s2fuzz_unlock_irqrestore(void *lock, unsigned long flags)
{
}

void *s2fuzz_kmalloc(unsigned long size, gfp_t flags) asm("__kmalloc");
void *s2fuzz_kmalloc(unsigned long size, gfp_t flags)
{
	return s2fuzz_zalloc(size);
}

void s2fuzz_kfree(const void *memory) asm("kfree");
void s2fuzz_kfree(const void *memory)
{
	s2fuzz_free(memory);
}
#else
static void begin_with_few(void)
{
}
#endif

#if S2FUZZ_HAS_vmid_update
static void update(u64 cpu, u64 owner)
{
	u64 before = s2fuzz_cpu;

	cpu_enter(cpu);
	kvm_arm_vmid_update(&owners[owner]);
	cpu_enter(before);
	runs[cpu] = owner + 1;
}

/* A CPU does not come in between itself. */
void s2fuzz_window(void)
{
	if (!race.nth || --race.nth || race.cpu == s2fuzz_cpu)
		return;
	update(race.cpu, race.owner);
	meanwhile = atomic64_read(&owners[race.owner].id);
}
#else
void s2fuzz_window(void)
{
}
#endif

static __maybe_unused s64 problem(u64 cpu)
{
	return state != BEGUN ? -ENODEV : cpu >= s2fuzz_cpus ? -EINVAL : 0;
}

static __maybe_unused void tell(u64 cpu)
{
	op_out(atomic64_read(&per_cpu(active_vmids, cpu)));
	op_out(per_cpu(reserved_vmids, cpu));
}

#if S2FUZZ_HAS_vmid_init
s64 op_vmid_init(const struct args_vmid_init *args)
{
	s64 ret;

	if (state != NOT_YET)
		return -EBUSY;
	ret = kvm_arm_vmid_alloc_init();
	begin_with_few();
	if (!ret)
		begin();
	op_out(kvm_arm_vmid_bits);
	return ret;
}
#endif

#if S2FUZZ_HAS_vmid_free
s64 op_vmid_free(const struct args_vmid_free *args)
{
	if (state != BEGUN)
		return -ENODEV;
	kvm_arm_vmid_alloc_free();
	state = ENDED;
	return 0;
}
#endif

#if S2FUZZ_HAS_vmid_update
s64 op_vmid_update(const struct args_vmid_update *args)
{
	s64 ret = problem(args->cpu);

	if (ret)
		return ret;
	meanwhile = 0;
	update(args->cpu, args->owner);
	op_out(atomic64_read(&owners[args->owner].id));
	tell(args->cpu);
	op_out(meanwhile);
	return 0;
}

s64 op_vmid_look(const struct args_vmid_look *args)
{
	s64 ret = problem(args->cpu);

	if (ret)
		return ret;
	op_out(atomic64_read(&owners[args->owner].id));
	tell(args->cpu);
	return 0;
}

s64 op_vmid_race(const struct args_vmid_race *args)
{
	s64 ret = problem(args->cpu);

	if (ret)
		return ret;
	race.nth = args->nth;
	race.cpu = args->cpu;
	race.owner = args->owner;
	return 0;
}

s64 op_vmid_new(const struct args_vmid_new *args)
{
	s64 ret = problem(0);

	for (u64 cpu = 0; !ret && cpu < s2fuzz_cpus; cpu++)
		ret = runs[cpu] == args->owner + 1 ? -EBUSY : 0;
	if (!ret)
		atomic64_set(&owners[args->owner].id, 0);
	return ret;
}
#endif

#if S2FUZZ_HAS_vmid_clear_active
s64 op_vmid_clear_active(const struct args_vmid_clear_active *args)
{
	s64 ret = problem(args->cpu);

	if (ret)
		return ret;
	cpu_enter(args->cpu);
	kvm_arm_vmid_clear_active();
	cpu_enter(0);
	runs[args->cpu] = 0;
	tell(args->cpu);
	return 0;
}
#endif
