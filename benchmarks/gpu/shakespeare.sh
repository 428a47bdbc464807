#!/bin/sh
# text/shakespeare_char_gpu on one GPU. First without looking at the split that is reported:
#
#   sh benchmarks/gpu/shakespeare.sh choose     trains on nine tenths of the training split, prints the loss on the rest;
#                                               cut off, it goes on where it was
#   sh benchmarks/gpu/shakespeare.sh            reproduces the experiment, into which the choice has been written
#
# Wants .gpu/wheels beside the checkout, as stacked_mnist.sh does, and .gpu/data/tinyshakespeare.
set -eu
cd "$(dirname "$0")/../.."
python -c "import hydra" 2>/dev/null || python -m pip install --quiet --no-index --find-links .gpu/wheels hydra-core
export PYTHONPATH="$PWD" AIGC_DATA="$PWD/.gpu/data"
[ "${1:-}" = choose ] || exec python -m aigc_lab reproduce text/shakespeare_char_gpu --trainer gpu
text=.gpu/shakespeare_training.txt
python -c "
import pathlib, sys
text = pathlib.Path('$AIGC_DATA/tinyshakespeare/input.txt').read_text()
pathlib.Path(sys.argv[1]).write_text(text[: len(text) * 9 // 10])" "$text"
for dropout in 0.1 0.2 0.3; do
  for steps in 750 1000 1500 2000 3000; do
    run="dropout$dropout-steps$steps"
    dir=".gpu/choose/text/shakespeare_char_gpu/$run"
    if [ -d "$dir" ]; then
      [ -e "$dir/checkpoints/weights.json" ] || python -m aigc_lab resume "$dir" >/dev/null
    else
      python -m aigc_lab train experiment=text/shakespeare_char_gpu trainer=gpu logger=none paths.runs_dir=.gpu/choose \
        "run_id=$run" "data.path=$text" data.name=chosen_on "model.network.dropout=$dropout" \
        "trainer.max_steps=$steps" "trainer.val_check_interval=$steps" >/dev/null
    fi
    echo "$run $(grep val/loss "$dir/metrics.csv" | tail -1)"
  done
done
