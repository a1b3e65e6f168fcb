/* SPDX-License-Identifier: GPL-2.0-only */
/* The program's logical CPUs, all of them online. */
#ifndef S2FUZZ_LINUX_SMP_H
#define S2FUZZ_LINUX_SMP_H

#include <linux/preempt.h>
#include <s2fuzz/cpus.h>

#define raw_smp_processor_id() (s2fuzz_cpu)
#define smp_processor_id() (s2fuzz_cpu)
#define get_cpu() ({ preempt_disable(); s2fuzz_cpu; })
#define put_cpu() preempt_enable()
#define num_online_cpus() (s2fuzz_cpus)
#define num_possible_cpus() (s2fuzz_cpus)
#define for_each_possible_cpu(cpu) for ((cpu) = 0; (unsigned int)(cpu) < s2fuzz_cpus; (cpu)++)
#define for_each_online_cpu(cpu) for_each_possible_cpu(cpu)

#endif
