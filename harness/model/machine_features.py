"""What a machine's knobs say to the page table."""

from __future__ import annotations

from typing import Final, NamedTuple

from harness.program.granule import GRANULES
from harness.program.machine import Machine
from pgtable import Features, Geometry, get_vtcr

FEATURE_KNOBS: Final = (
    *("fwb", "tlb_range", "hw_af", "ac03_cpu_38", "ttl", "cnp", "repeat_tlbi", "lpa2", "pa_bits_52", "bti", "hvhe"),
)
"""The knobs that are `Features` of the same name, on or off."""
_GEOMETRIES: Final = tuple(Geometry(granule.shift) for granule in GRANULES)
"""By values of the knob `granule`."""


class MachineFeatures(NamedTuple):
    """The CPU, its granule, and the VTCR_EL2 of the VM under test."""

    features: Features
    geometry: Geometry
    vtcr: int


def machine_features(machine: Machine) -> MachineFeatures:
    """What programs for this machine run on."""
    features = Features(
        **{name: bool(machine[name]) for name in FEATURE_KNOBS},
        parange=machine["parange"],
        vmid_bits=machine.vmid_bits,
    )
    geometry = _GEOMETRIES[machine["granule"]]
    return MachineFeatures(features, geometry, get_vtcr(machine["ia_bits"], features, geometry))
