/* SPDX-License-Identifier: GPL-2.0-only */
/* What functions in kvm_mmu.h that nothing here calls are made of. */
#ifndef S2FUZZ_ASM_KVM_EMULATE_H
#define S2FUZZ_ASM_KVM_EMULATE_H

#include <linux/kvm_host.h>

enum { SCTLR_EL1, SCTLR_EL2 };
enum arm64_hyp_spectre_vector { HYP_VECTOR_DIRECT };

bool vcpu_is_el2(const struct kvm_vcpu *vcpu);
u64 vcpu_read_sys_reg(const struct kvm_vcpu *vcpu, int reg);
u64 read_sanitised_ftr_reg(u32 id);

#endif
