/* SPDX-License-Identifier: GPL-2.0-only */
/* One CPU. */
#ifndef S2FUZZ_LINUX_SMP_H
#define S2FUZZ_LINUX_SMP_H

#include <linux/preempt.h>

#define raw_smp_processor_id() 0
#define smp_processor_id() 0
#define get_cpu() ({ preempt_disable(); 0; })
#define put_cpu() preempt_enable()
#define num_online_cpus() 1u

#endif
