"""Folders of inputs: kept, converted, made small."""
