/* SPDX-License-Identifier: GPL-2.0-only */
/* Nobody else runs here; that preemption is off is counted, for sleeping is forbidden then. */
#ifndef S2FUZZ_LINUX_PREEMPT_H
#define S2FUZZ_LINUX_PREEMPT_H

#include <linux/compiler.h>
#include <s2fuzz/locking.h>

#define preempt_disable() s2fuzz_atomic(1)
#define preempt_enable() s2fuzz_atomic(-1)
#define preempt_disable_notrace() preempt_disable()
#define preempt_enable_notrace() preempt_enable()
#define preempt_enable_no_resched() preempt_enable()
#define preempt_count() (s2fuzz_atomic_depth)
#define preemptible() (!s2fuzz_atomic_depth)
#define migrate_disable() do { } while (0)
#define migrate_enable() do { } while (0)
#define in_interrupt() 0
#define in_task() 1
#define in_nmi() 0
#define in_atomic() (s2fuzz_atomic_depth != 0)

#endif
