// SPDX-License-Identifier: GPL-2.0-only
/* vCPUs that come to run on CPUs and leave them. It is ours: what kvm_arch_vcpu_load() and kvm_arch_vcpu_put() of arm.c do
 * about an MMU, which has all of KVM behind it there. What they call of vmid.c and tlb.c is the tree's. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"
#include "../context.h"
#include "../guest.h"
#include "../vcpus.h"
#include "../vmids.h"
#include <s2fuzz/cpus.h>

static struct loaded {
	bool is_there;
	u64 vcpu;
	const struct under_test *mmu;
} loaded[S2FUZZ_MOST_CPUS];
static bool any_ever;
/* The one that runs what follows. */
static u64 current;

void vcpus_reset(void)
{
	if (any_ever)
		memset(loaded, 0, sizeof(loaded));
	any_ever = false;
	current = 0;
}

bool vcpus_are_loaded(void)
{
	for (u64 cpu = 0; cpu < s2fuzz_cpus; cpu++)
		if (loaded[cpu].is_there)
			return true;
	return false;
}

bool vcpu_is_loaded_under(const struct under_test *mmu)
{
	for (u64 cpu = 0; cpu < s2fuzz_cpus; cpu++)
		if (loaded[cpu].is_there && loaded[cpu].mmu == mmu)
			return true;
	return false;
}

bool vcpu_is_loaded_of(u64 vm)
{
	for (u64 cpu = 0; cpu < s2fuzz_cpus; cpu++)
		if (loaded[cpu].is_there && loaded[cpu].mmu->vm == vm)
			return true;
	return false;
}

#if S2FUZZ_HAS_vcpu_load
static bool vcpu_is_loaded(u64 vm, u64 vcpu)
{
	for (u64 cpu = 0; cpu < s2fuzz_cpus; cpu++)
		if (loaded[cpu].is_there && loaded[cpu].vcpu == vcpu && loaded[cpu].mmu->vm == vm)
			return true;
	return false;
}

static s64 problem(u64 cpu)
{
	if (config.kvm_mode == kvm_mode_pkvm_host)
		return -EOPNOTSUPP;
	return cpu < s2fuzz_cpus ? 0 : -EINVAL;
}

s64 vcpu_running(u64 *vcpu)
{
	s64 ret = problem(current);

	if (ret)
		return ret;
	if (!loaded[current].is_there || loaded[current].mmu != under_test)
		return -ENOENT;
	*vcpu = loaded[current].vcpu;
	return 0;
}

/* What follows is another CPU's, if it is; what the one that is left has in its TLB, nobody here can show any more. */
static void go_to(u64 cpu)
{
	if (cpu != current && guest_is_looked_at())
		guest_invalidate();
	current = cpu;
}

static s64 load(u64 cpu, u64 vcpu, struct under_test *mmu)
{
	bool runs = S2FUZZ_HAS_RUNNING_VCPU && context_is_vhe(), flushes;
	struct vmid_turn turn = { 0 };
	s64 last, ret = problem(cpu);

	if (ret)
		return ret;
	if (loaded[cpu].is_there || vcpu_is_loaded(mmu->vm, vcpu))
		return -EBUSY;
	if (!mmu->pgt->pgd)
		return -ENOENT;
	go_to(cpu);
	boundary_run(NULL, false);
	if (vmids_are_allocated()) {
		turn = vmids_update_mmu(cpu, &mmu->mmu.vmid);
		mmu->vmid = turn.id & GENMASK(vmid_bits() - 1, 0);
		boundary_run(NULL, false);
	}
	last = mmu->last_vcpu_ran[cpu];
	flushes = last != (s64)vcpu;
	if (flushes) {
		__kvm_flush_cpu_context(&mmu->mmu);
		mmu->last_vcpu_ran[cpu] = vcpu;
	}
	loaded[cpu] = (struct loaded){ true, vcpu, mmu };
	any_ever = true;
	boundary_run(mmu, runs);
	op_out(cpu);
	op_out(last);
	op_out(flushes);
	op_out(mmu->vmid & GENMASK(vmid_bits() - 1, 0));
	op_out(runs);
	op_out(turn.id);
	op_out(turn.active);
	op_out(turn.meanwhile);
	return 0;
}

s64 op_vcpu_load(const struct args_vcpu_load *args)
{
	s64 ret = load(args->cpu, args->vcpu, mmu_numbered(args->mmu + 1));

	if (!ret)
		op_out(args->mmu);
	return ret;
}

s64 op_vcpu_load_first(const struct args_vcpu_load_first *args)
{
	return load(args->cpu, args->vcpu, mmu_first());
}

s64 op_vcpu_put(const struct args_vcpu_put *args)
{
	s64 ret = problem(args->cpu);
	u64 active = 0;

	if (ret)
		return ret;
	if (!loaded[args->cpu].is_there)
		return -ENOENT;
	go_to(args->cpu);
	loaded[args->cpu].is_there = false;
	if (vmids_are_allocated())
		active = vmids_schedule_out(args->cpu);
	boundary_run(NULL, false);
	op_out(args->cpu);
	op_out(active);
	return 0;
}
#endif
