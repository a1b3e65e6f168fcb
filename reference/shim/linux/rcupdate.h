/* SPDX-License-Identifier: GPL-2.0-only */
/* One CPU, no preemption: RCU is the nesting depth that kvm_pgtable_walk_lock_held() asks for. */
#ifndef S2FUZZ_LINUX_RCUPDATE_H
#define S2FUZZ_LINUX_RCUPDATE_H

#include <linux/compiler.h>

extern int s2fuzz_rcu_depth;

static inline void rcu_read_lock(void)
{
	s2fuzz_rcu_depth++;
}

static inline void rcu_read_unlock(void)
{
	s2fuzz_rcu_depth--;
}

static inline int rcu_read_lock_held(void)
{
	return s2fuzz_rcu_depth > 0;
}

#define rcu_dereference_check(p, c) ((void)(c), (__typeof__(*(p)) __force *)(p))
#define rcu_dereference(p) rcu_dereference_check(p, 1)

#endif
