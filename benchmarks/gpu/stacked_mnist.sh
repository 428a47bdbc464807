#!/bin/sh
# modes/stacked_mnist in full on one GPU: about 50,000 steps of a convolutional pair, two variants, three seeds.
#
#   sh benchmarks/gpu/stacked_mnist.sh [RUNS_DIR]
#
# For a machine without a network, where torch is installed and Hydra is not. Beside the checkout it needs
#   .gpu/wheels   wheels of hydra-core, omegaconf and antlr4-python3-runtime (pip wheel -w .gpu/wheels hydra-core)
#   .gpu/data     MNIST in torchvision's layout (a copy of $AIGC_DATA/MNIST)
# It can be cut off and called again: finished trials are used, the last one goes on from its checkpoint.
set -eu
cd "$(dirname "$0")/../.."
python -c "import hydra" 2>/dev/null || python -m pip install --quiet --no-index --find-links .gpu/wheels hydra-core
export PYTHONPATH="$PWD" AIGC_DATA="$PWD/.gpu/data"
exec python -m aigc_lab reproduce modes/stacked_mnist --trainer gpu --runs-dir "${1:-runs}"
