/* SPDX-License-Identifier: GPL-2.0-only */
/* The logical CPUs of a program: one runs at a time, and QEMU's only one executes it (kernel/cpus.c). */
#ifndef S2FUZZ_CPUS_H
#define S2FUZZ_CPUS_H

/* The one that runs, and how many there are. */
extern unsigned int s2fuzz_cpu, s2fuzz_cpus;

/* From a per-CPU variable to each CPU's copy of it. */
extern unsigned long __per_cpu_offset[];

/* From now on that CPU runs. */
void cpu_enter(u64 cpu);

/* Of VMID, as the program says. */
unsigned int s2fuzz_vmid_bits(void);

/* Called by hosted code where another CPU may come in between (kernel/ops/vmid.c). */
void s2fuzz_window(void);

#endif
