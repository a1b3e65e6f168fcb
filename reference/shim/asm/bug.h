/* SPDX-License-Identifier: GPL-2.0-only */
/* WARNs are recorded with the place they stand at; BUGs stop the test kernel. ONCE flags are statics of the hosted
 * object, so they are restored with its data before every program. */
#ifndef S2FUZZ_ASM_BUG_H
#define S2FUZZ_ASM_BUG_H

#include <linux/compiler.h>
#include <s2fuzz/boundary.h>

#define S2FUZZ_HERE ({ const void *__pc; asm volatile("adr %0, ." : "=r"(__pc)); __pc; })

#define WARN_ON(condition) ({			\
	int __warned = !!(condition);		\
	if (unlikely(__warned))			\
		s2fuzz_warn(__func__, S2FUZZ_HERE);	\
	unlikely(__warned);			\
})

#define WARN_ON_ONCE(condition) ({			\
	static _Bool __already;				\
	int __warned = !!(condition);			\
	if (unlikely(__warned && !__already)) {		\
		__already = 1;				\
		s2fuzz_warn(__func__, S2FUZZ_HERE);		\
	}						\
	unlikely(__warned);				\
})

int _printk(const char *format, ...);

#define WARN(condition, ...) ({			\
	int __warned = !!(condition);		\
	if (unlikely(__warned)) {		\
		s2fuzz_warn(__func__, S2FUZZ_HERE);	\
		_printk(__VA_ARGS__);		\
	}					\
	unlikely(__warned);			\
})

#define WARN_ONCE(condition, ...) ({			\
	static _Bool __already;				\
	int __warned = !!(condition);			\
	if (unlikely(__warned && !__already)) {		\
		__already = 1;				\
		s2fuzz_warn(__func__, S2FUZZ_HERE);	\
		_printk(__VA_ARGS__);			\
	}						\
	unlikely(__warned);				\
})

#define WARN_TAINT(condition, taint, ...) WARN(condition, __VA_ARGS__)
#define WARN_TAINT_ONCE(condition, taint, ...) WARN_ONCE(condition, __VA_ARGS__)
#define BUG() s2fuzz_bug()
#define BUG_ON(condition) do { if (unlikely(condition)) BUG(); } while (0)

#endif
