/* SPDX-License-Identifier: GPL-2.0-only */
/* What is asserted of a lock is looked up in the lock itself. */
#ifndef S2FUZZ_LINUX_LOCKDEP_H
#define S2FUZZ_LINUX_LOCKDEP_H

#include <s2fuzz/locking.h>

struct lockdep_map {
	int unused;
};

struct lock_class_key {
	int unused;
};

#define lockdep_is_held(lock) ((lock)->s2fuzz_held != 0)
#define lockdep_is_held_type(lock, read) ((read) ? (lock)->s2fuzz_held > 0 : (lock)->s2fuzz_held == S2FUZZ_WRITER)
#define lockdep_assert(condition) s2fuzz_demand(condition, S2FUZZ_LOCK_NOT_HELD)
#define lockdep_assert_once(condition) lockdep_assert(condition)
#define lockdep_assert_held(lock) lockdep_assert(lockdep_is_held(lock))
#define lockdep_assert_not_held(lock) lockdep_assert(!lockdep_is_held(lock))
#define lockdep_assert_held_write(lock) lockdep_assert(lockdep_is_held_type(lock, 0))
#define lockdep_assert_held_read(lock) lockdep_assert(lockdep_is_held_type(lock, 1))
#define lockdep_assert_held_once(lock) lockdep_assert_held(lock)
#define lockdep_assert_none_held_once() lockdep_assert(!s2fuzz_atomic_depth)
#define lockdep_assert_irqs_enabled() lockdep_assert(!s2fuzz_irqs_off)
#define lockdep_assert_irqs_disabled() lockdep_assert(s2fuzz_irqs_off)
#define lockdep_assert_in_irq() lockdep_assert(0)
#define lockdep_assert_preemption_enabled() lockdep_assert(!s2fuzz_atomic_depth)
#define lockdep_assert_preemption_disabled() lockdep_assert(s2fuzz_atomic_depth)
#define lockdep_assert_in_rcu_read_lock() s2fuzz_demand(s2fuzz_rcu_depth > 0, S2FUZZ_SUSPICIOUS_RCU)
#define lockdep_set_class(lock, key) ((void)(lock), (void)(key))
#define lockdep_off() do { } while (0)
#define lockdep_on() do { } while (0)

#endif
