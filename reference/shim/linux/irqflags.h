/* SPDX-License-Identifier: GPL-2.0-only */
/* Interrupts are never taken here; that they are off is kept, for sleeping is forbidden then. */
#ifndef S2FUZZ_LINUX_IRQFLAGS_H
#define S2FUZZ_LINUX_IRQFLAGS_H

#include <s2fuzz/locking.h>

static inline void s2fuzz_set_irqs_off(int off)
{
	if (off != s2fuzz_irqs_off)
		s2fuzz_atomic(off ? 1 : -1);
	s2fuzz_irqs_off = off;
}

#define local_irq_save(flags) do { (flags) = s2fuzz_irqs_off; s2fuzz_set_irqs_off(1); } while (0)
#define local_irq_restore(flags) s2fuzz_set_irqs_off((flags) != 0)
#define local_irq_disable() s2fuzz_set_irqs_off(1)
#define local_irq_enable() s2fuzz_set_irqs_off(0)
#define local_save_flags(flags) ((void)((flags) = s2fuzz_irqs_off))
#define irqs_disabled() (s2fuzz_irqs_off)
#define irqs_disabled_flags(flags) ((flags) != 0)

#endif
