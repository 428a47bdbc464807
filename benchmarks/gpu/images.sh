#!/bin/sh
# A GAN's step on one GPU at 32 x 32 and 64 x 64, beside a bare loop, and the share of the chip's peak: four lines of JSON.
#
#   sh benchmarks/gpu/images.sh [PEAK_TFLOPS]
#
# Wants .gpu/wheels and .gpu/data beside the checkout, as stacked_mnist.sh does.
set -eu
cd "$(dirname "$0")/../.."
python -c "import hydra" 2>/dev/null || python -m pip install --quiet --no-index --find-links .gpu/wheels hydra-core
export PYTHONPATH="$PWD" AIGC_DATA="$PWD/.gpu/data"
for size in 32 64; do
  for precision in 32-true bf16-mixed; do
    python benchmarks/image/overhead.py --device cuda --size "$size" --precision "$precision" --steps 300 --peak "${1:-989}" | tail -1
  done
done
