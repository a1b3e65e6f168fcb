/* SPDX-License-Identifier: GPL-2.0-only */
/* Of the tree's, what goes over all CPUs. */
#ifndef S2FUZZ_LINUX_CPUMASK_H
#define S2FUZZ_LINUX_CPUMASK_H
#include <linux/smp.h>
#endif
