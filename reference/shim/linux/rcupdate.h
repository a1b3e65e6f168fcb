/* SPDX-License-Identifier: GPL-2.0-only */
/* One CPU: RCU is a nesting depth, which kvm_pgtable_walk_lock_held() asks for. Taking and dropping the lock are events,
 * and what Linux with CONFIG_PROVE_RCU objects to is a complaint (kernel/boundary.c). */
#ifndef S2FUZZ_LINUX_RCUPDATE_H
#define S2FUZZ_LINUX_RCUPDATE_H

#include <linux/compiler.h>
#include <s2fuzz/locking.h>

void __rcu_read_lock(void);
void __rcu_read_unlock(void);

#define rcu_read_lock() __rcu_read_lock()
#define rcu_read_unlock() __rcu_read_unlock()

static inline int rcu_read_lock_held(void)
{
	return s2fuzz_rcu_depth > 0;
}

#define RCU_LOCKDEP_WARN(c, s) s2fuzz_demand(!(c), S2FUZZ_SUSPICIOUS_RCU)

#define rcu_dereference_check(p, c) ({						\
	RCU_LOCKDEP_WARN(!((c) || rcu_read_lock_held()), "");			\
	(__typeof__(*(p)) __force *)READ_ONCE(p);				\
})
#define rcu_dereference(p) rcu_dereference_check(p, 0)
#define rcu_dereference_protected(p, c) ({					\
	RCU_LOCKDEP_WARN(!(c), "");						\
	(__typeof__(*(p)) __force *)(p);					\
})
#define rcu_dereference_raw(p) ((__typeof__(*(p)) __force *)READ_ONCE(p))
#define rcu_access_pointer(p) rcu_dereference_raw(p)
#define rcu_assign_pointer(p, v) smp_store_release(&(p), (v))
#define synchronize_rcu() might_sleep()

#endif
