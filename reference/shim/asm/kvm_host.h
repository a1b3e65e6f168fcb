/* SPDX-License-Identifier: GPL-2.0-only */
/* The tree's has all of KVM; what hosted files take of it stands in linux/kvm_host.h. */
#ifndef S2FUZZ_ASM_KVM_HOST_H
#define S2FUZZ_ASM_KVM_HOST_H

#include <linux/kvm_host.h>

#endif
