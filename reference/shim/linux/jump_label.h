/* SPDX-License-Identifier: GPL-2.0-only */
/* Static keys are variables, which a program's machine decides. */
#ifndef S2FUZZ_LINUX_JUMP_LABEL_H
#define S2FUZZ_LINUX_JUMP_LABEL_H

struct static_key_false {
	_Bool enabled;
};

#define DECLARE_STATIC_KEY_FALSE(name) extern struct static_key_false name
#define DEFINE_STATIC_KEY_FALSE(name) struct static_key_false name
#define static_branch_likely(key) ((key)->enabled)
#define static_branch_unlikely(key) ((key)->enabled)

#endif
