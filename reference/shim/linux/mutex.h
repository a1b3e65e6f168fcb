/* SPDX-License-Identifier: GPL-2.0-only */
/* A mutex may only be taken where sleeping is allowed, see s2fuzz/locking.h. */
#ifndef S2FUZZ_LINUX_MUTEX_H
#define S2FUZZ_LINUX_MUTEX_H

#include <linux/lockdep.h>

struct mutex {
	int s2fuzz_held;
};

#define DEFINE_MUTEX(name) struct mutex name
#define mutex_init(lock) ((void)((lock)->s2fuzz_held = 0))
#define mutex_lock(lock) s2fuzz_lock(&(lock)->s2fuzz_held, 0)
#define mutex_lock_nested(lock, subclass) mutex_lock(lock)
#define mutex_lock_interruptible(lock) (mutex_lock(lock), 0)
#define mutex_trylock(lock) s2fuzz_trylock(&(lock)->s2fuzz_held, 0)
#define mutex_unlock(lock) s2fuzz_unlock(&(lock)->s2fuzz_held, 0)
#define mutex_is_locked(lock) ((lock)->s2fuzz_held != 0)

#endif
