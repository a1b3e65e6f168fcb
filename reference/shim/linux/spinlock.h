/* SPDX-License-Identifier: GPL-2.0-only */
/* Spinlocks and rwlocks, see s2fuzz/locking.h. */
#ifndef S2FUZZ_LINUX_SPINLOCK_H
#define S2FUZZ_LINUX_SPINLOCK_H

#include <linux/irqflags.h>
#include <linux/lockdep.h>
#include <linux/preempt.h>

typedef struct spinlock {
	int s2fuzz_held;
} spinlock_t, raw_spinlock_t;

typedef struct {
	int s2fuzz_held;
} rwlock_t;

#define __SPIN_LOCK_UNLOCKED(name) (spinlock_t){ 0 }
#define __RAW_SPIN_LOCK_UNLOCKED(name) (raw_spinlock_t){ 0 }
#define DEFINE_SPINLOCK(name) spinlock_t name
#define DEFINE_RAW_SPINLOCK(name) raw_spinlock_t name
#define DEFINE_RWLOCK(name) rwlock_t name

#define spin_lock_init(lock) ((void)((lock)->s2fuzz_held = 0))
#define spin_lock(lock) s2fuzz_lock(&(lock)->s2fuzz_held, 1)
#define spin_trylock(lock) s2fuzz_trylock(&(lock)->s2fuzz_held, 1)
#define spin_unlock(lock) s2fuzz_unlock(&(lock)->s2fuzz_held, 1)
#define spin_is_locked(lock) ((lock)->s2fuzz_held != 0)
#define spin_lock_nested(lock, subclass) spin_lock(lock)
#define spin_lock_bh(lock) spin_lock(lock)
#define spin_unlock_bh(lock) spin_unlock(lock)
#define spin_lock_irq(lock) do { local_irq_disable(); spin_lock(lock); } while (0)
#define spin_unlock_irq(lock) do { spin_unlock(lock); local_irq_enable(); } while (0)
#define spin_lock_irqsave(lock, flags) do { local_irq_save(flags); spin_lock(lock); } while (0)
#define spin_unlock_irqrestore(lock, flags) do { spin_unlock(lock); local_irq_restore(flags); } while (0)
#define assert_spin_locked(lock) lockdep_assert_held(lock)

#define raw_spin_lock_init(lock) spin_lock_init(lock)
#define raw_spin_lock(lock) spin_lock(lock)
#define raw_spin_trylock(lock) spin_trylock(lock)
#define raw_spin_unlock(lock) spin_unlock(lock)
#define raw_spin_is_locked(lock) spin_is_locked(lock)
#define raw_spin_lock_nested(lock, subclass) spin_lock(lock)
#define raw_spin_lock_irq(lock) spin_lock_irq(lock)
#define raw_spin_unlock_irq(lock) spin_unlock_irq(lock)
#define raw_spin_lock_irqsave(lock, flags) spin_lock_irqsave(lock, flags)
#define raw_spin_unlock_irqrestore(lock, flags) spin_unlock_irqrestore(lock, flags)

#define rwlock_init(lock) ((void)((lock)->s2fuzz_held = 0))
#define write_lock(lock) s2fuzz_lock(&(lock)->s2fuzz_held, 1)
#define write_trylock(lock) s2fuzz_trylock(&(lock)->s2fuzz_held, 1)
#define write_unlock(lock) s2fuzz_unlock(&(lock)->s2fuzz_held, 1)
#define read_lock(lock) s2fuzz_read_lock(&(lock)->s2fuzz_held)
#define read_unlock(lock) s2fuzz_read_unlock(&(lock)->s2fuzz_held)
#define write_lock_irqsave(lock, flags) do { local_irq_save(flags); write_lock(lock); } while (0)
#define write_unlock_irqrestore(lock, flags) do { write_unlock(lock); local_irq_restore(flags); } while (0)
#define read_lock_irqsave(lock, flags) do { local_irq_save(flags); read_lock(lock); } while (0)
#define read_unlock_irqrestore(lock, flags) do { read_unlock(lock); local_irq_restore(flags); } while (0)
#define rwlock_is_contended(lock) ((void)(lock), 0)
#define spin_is_contended(lock) ((void)(lock), 0)

#endif
