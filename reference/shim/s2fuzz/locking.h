/* SPDX-License-Identifier: GPL-2.0-only */
/* Locks and the rules about them. One CPU runs hosted code, so that a lock is its state; what lockdep or
 * CONFIG_DEBUG_ATOMIC_SLEEP would object to in Linux is a complaint (kernel/services.c). */
#ifndef S2FUZZ_LOCKING_H
#define S2FUZZ_LOCKING_H

#include "generated_rules.h"

#define S2FUZZ_RULE(name, number) S2FUZZ_##name = number,
enum s2fuzz_rule { S2FUZZ_RULES(S2FUZZ_RULE) };
#undef S2FUZZ_RULE

/* Of a lock: not held, by a writer, or by so many readers. */
#define S2FUZZ_WRITER (-1)

extern int s2fuzz_rcu_depth;
/* How many locks that forbid sleeping are held, calls of preempt_disable() and of local_irq_disable() among them. */
extern int s2fuzz_atomic_depth;
/* Whether interrupts are off; they are never taken here. */
extern int s2fuzz_irqs_off;

void s2fuzz_broken(enum s2fuzz_rule rule, const void *pc);
void s2fuzz_might_sleep(void);
void s2fuzz_atomic(int change);
void s2fuzz_lock(int *held, int atomic);
int s2fuzz_trylock(int *held, int atomic);
void s2fuzz_unlock(int *held, int atomic);
void s2fuzz_read_lock(int *held);
void s2fuzz_read_unlock(int *held);

#define S2FUZZ_PC ({ const void *__pc; asm volatile("adr %0, ." : "=r"(__pc)); __pc; })
#define s2fuzz_demand(condition, rule) do {		\
	if (__builtin_expect(!(condition), 0))		\
		s2fuzz_broken(rule, S2FUZZ_PC);		\
} while (0)

#endif
