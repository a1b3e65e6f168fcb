/* SPDX-License-Identifier: GPL-2.0-only */
/* Named by mem_protect.h; hosted files use nothing of it. */
#ifndef S2FUZZ_NVHE_PKVM_H
#define S2FUZZ_NVHE_PKVM_H

struct pkvm_hyp_vm;
struct kvm_hyp_memcache;

#endif
