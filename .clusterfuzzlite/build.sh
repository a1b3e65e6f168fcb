#!/bin/bash -eu
# Run by the cluster's `compile`, with SRC and OUT set. Everything was made when the image was: see the Dockerfile.
cp -R --preserve=mode "$SRC/package/." "$OUT/"
