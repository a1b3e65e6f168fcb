/* SPDX-License-Identifier: GPL-2.0-only */
/* One task, which nobody waits for. */
#ifndef S2FUZZ_LINUX_SCHED_H
#define S2FUZZ_LINUX_SCHED_H

#include <linux/preempt.h>

#define need_resched() 0
#define cond_resched() (s2fuzz_might_sleep(), 0)
#define cond_resched_lock(lock) ((void)(lock), 0)
#define cond_resched_rwlock_read(lock) ((void)(lock), 0)
#define cond_resched_rwlock_write(lock) ((void)(lock), 0)
#define schedule() s2fuzz_might_sleep()

#endif
