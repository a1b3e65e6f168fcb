// SPDX-License-Identifier: GPL-2.0-only
/* The logical CPUs of a program. Hosted files have a copy of their per-CPU variables for each (link.ld). */
#include "kernel.h"
#include "../shim/s2fuzz/cpus.h"

extern u8 percpu_start[], percpu_end[], percpu_room_end[];

unsigned int s2fuzz_cpu, s2fuzz_cpus;
unsigned long __per_cpu_offset[S2FUZZ_MOST_CPUS];

/* Before hosted files run and their data is saved: each copy begins as the image has it. */
void cpus_init(void)
{
	u64 size = percpu_end - percpu_start;

	if (percpu_start + S2FUZZ_MOST_CPUS * size > percpu_room_end)
		panic("no room for the per-CPU variables of all CPUs");
	for (u64 cpu = 1; cpu < S2FUZZ_MOST_CPUS; cpu++) {
		__per_cpu_offset[cpu] = cpu * size;
		memcpy(percpu_start + cpu * size, percpu_start, size);
	}
}

/* Which copies are its own a CPU has in TPIDR_EL2, for what the kernel's own build made. */
void cpu_enter(u64 cpu)
{
	s2fuzz_cpu = cpu;
	asm volatile("msr tpidr_el2, %0" :: "r"(__per_cpu_offset[cpu]));
}

void cpus_reset(u64 count)
{
	s2fuzz_cpus = count;
	cpu_enter(0);
}
