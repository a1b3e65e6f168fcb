/* SPDX-License-Identifier: GPL-2.0-only */
/* How KVM runs, which a program's machine decides. */
#ifndef S2FUZZ_ASM_VIRT_H
#define S2FUZZ_ASM_VIRT_H

#include <linux/cache.h>
#include <linux/jump_label.h>
#include <linux/linkage.h>
#include <linux/threads.h>

DECLARE_STATIC_KEY_FALSE(kvm_protected_mode_initialized);

#endif
