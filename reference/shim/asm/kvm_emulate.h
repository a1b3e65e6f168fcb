/* SPDX-License-Identifier: GPL-2.0-only */
/* Included by kvm_mmu.h; what it takes of it stands in linux/kvm_host.h. */
#ifndef S2FUZZ_ASM_KVM_EMULATE_H
#define S2FUZZ_ASM_KVM_EMULATE_H
#endif
