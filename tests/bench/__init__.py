"""The benchmark: `make bench`. Figures are ratios of two sides measured in one run, in alternating slices, so that the
machine's noise hits both. pytest does not collect this, and no test asserts a time.

One module per figure, each with `measure(bench) -> Figure`; `__main__` runs them.
"""
