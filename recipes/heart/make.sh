#!/usr/bin/env bash
# Make the built-in voice from nothing, in WORK/voice: recipes/heart/make.sh WORK STYLES
#
# STYLES is the folder package/voices of `npm pack kokoro-js@1.2.1`. Every step resumes where it was stopped, and a
# finished step is skipped: after any stop, run the same command again.
# SHARE: part of each training's minutes (1: about 30 hours of two cores). SHARDS: part of the corpus.
# START: a voice's folder to start from (README.md, "Starting from the shipped voice"). Empty: from nothing.
# PROCESSES: number of training processes. PYTHON: an interpreter that has the packages.
set -euo pipefail
work=${1:?a folder for the corpus, the checkpoints and the voice}
styles=${2:?the folder of the style vectors}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
share=${SHARE:-1} shards=${SHARDS:-1} start=${START:-} processes=${PROCESSES:-2}
levels="4 4 4 4 4 4" # with other levels the codec is grown from START; --codes below is their product

export OMP_NUM_THREADS=1 ONEDNN_PRIMITIVE_CACHE_CAPACITY=2048
export PYTHONPATH=$here/../..:$here${PYTHONPATH:+:$PYTHONPATH}
# Keep freed memory, in huge pages, instead of returning it after each step: saves a fifth of the time.
train_environment="GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=20000000000"

run() { "$python" "$here/$1" "${@:2}"; }
train() { env "$train_environment" "$python" -m torch.distributed.run --standalone --nproc-per-node "$processes" "$here/$1" "${@:2}"; }
minutes() { awk "BEGIN { print $1 * $share }"; }
count() { awk "BEGIN { n = int($1 * $shards); print (n < 1 ? 1 : n) }"; }

# 1. Speech with its text and timed phones: 40 h of the default speaker, 8 h of the named ones, 1,000 blends.
run corpus.py "$work/corpus" heart --shards "$(count 100)"
printf '%s\n' "named $(count 80)" "english $(count 40)" "blends $(count 40)" "others $(count 15)" |
  xargs -P "$processes" -L 1 sh -c '"$0" "$1/corpus.py" "$2/corpus" "$4" --voices "$3" --shards "$5" --compile' \
    "$python" "$here" "$work" "$styles"
# 2. The codec: at a constant rate, the discriminator from two fifths of the time; then the rate falls.
# shellcheck disable=SC2086 # a list of numbers
train codec.py train "$work/corpus" "$work/codec-a" --levels $levels --minutes "$(minutes 500)" --bf16 --compile \
  --rate 6e-4 --phone 1.5 --discriminator-from "$(minutes 200)" ${start:+--init-from "$start/codec"} --shares heart=0.2 named=0.1 english=0.2 blends=0.4 others=0.1
# shellcheck disable=SC2086
train codec.py train "$work/corpus" "$work/codec-b" --branch-from "$work/codec-a/last.pt" --levels $levels \
  --minutes "$(minutes 100)" --decay 1 --freeze-codes --bf16 --compile --rate 2e-4 \
  --shares heart=0.2 named=0.1 english=0.2 blends=0.4 others=0.1
[ -e "$work/codec" ] || run codec.py export "$work/codec-b" "$work/codec" --match-spectrum "$work/corpus"
# 3. The codes of the corpus; the blends at other speeds too, as more voices for cloning.
for name in heart named english blends others; do
  seq 0 $((processes - 1)) | xargs -P "$processes" -I N \
    "$python" "$here/encode.py" "$work/corpus" "$work/codec" "$work/codes" "$name" --part "N/$processes"
done
for speed in 0.86 0.93 1.08 1.16; do run encode.py "$work/corpus" "$work/codec" "$work/codes" blends --speed "$speed"; done
# 4. The language model: at a constant rate, then the rate falls.
[ -e "$work/tokenizer/tokenizer.json" ] || run tokenizer.py "$work/tokenizer" --codes 4096
[ -e "$work/tokenizer/pronunciations.txt" ] || run lexicon.py "$work/tokenizer/pronunciations.txt"
rows="heart=0.4 named=0.3 english=0.05 blends=0.15 blends@0.86=0.025 blends@0.93=0.025 blends@1.08=0.025 blends@1.16=0.025"
# shellcheck disable=SC2086
train train_lm.py "$work/codes" "$work/tokenizer" "$work/lm-a" --levels $levels --minutes "$(minutes 500)" \
  --muon --bf16 --compile --tokens 2400 ${start:+--init-from "$start" --same-codec} --shares $rows
# shellcheck disable=SC2086
train train_lm.py "$work/codes" "$work/tokenizer" "$work/lm" --branch-from "$work/lm-a/last.pt" --levels $levels \
  --minutes "$(minutes 200)" --decay 1 --muon --bf16 --compile --tokens 2400 --shares $rows
# 5. The voice's folder: `llasa say -m WORK/voice` speaks with it.
run pack.py "$work/lm/model" "$work/codec" "$work/voice" --guidance 1.5
