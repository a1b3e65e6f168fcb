/* SPDX-License-Identifier: GPL-2.0-only */
/* faults.c: what a program lets go wrong. */
#ifndef S2FUZZ_FAULTS_H
#define S2FUZZ_FAULTS_H

#include "tree.h"

void faults_reset(void);
void fault_fail_alloc(u64 nth);
bool fault_fails_now(void);
s64 fault_locate(const struct kvm_pgtable *pgt, u64 ipa, s8 level, kvm_pte_t **ptep);
s64 fault_plant(kvm_pte_t *ptep, s8 level, kvm_pte_t pte);
void fault_race(u64 nth, kvm_pte_t pte);
void fault_before_cmpxchg(kvm_pte_t *ptep);
void fault_write(kvm_pte_t *ptep, kvm_pte_t pte);

#endif
