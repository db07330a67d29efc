#!/usr/bin/env bash
# The built-in voice from nothing, in WORK/voice: recipes/tiny/make.sh WORK
#
# Each step resumes where it was stopped, and a completed step is skipped: after any interruption, run the same command again.
# SHARE: of the minutes that each training has (1: 8.5 hours in each process). SHARDS: of 1,000 lines each
# voice but the default one, which has three times as many. PROCESSES: that train together. PYTHON: which has the package.
set -euo pipefail
work=${1:?a folder for the corpus, the checkpoints and the voice}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
share=${SHARE:-1} shards=${SHARDS:-10} processes=${PROCESSES:-2}
speeds="0.8 0.88 1.12 1.2" voices="rms slt awb kal16"

export OMP_NUM_THREADS=1 ONEDNN_PRIMITIVE_CACHE_CAPACITY=64
export PYTHONPATH=$here/../..:$here${PYTHONPATH:+:$PYTHONPATH}
# glibc would give memory back after each step and take it again: to keep it, in huge pages, saves a fifth of the time.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=20000000000

run() { "$python" "$here/$1" "${@:2}"; }
train() { "$python" -m torch.distributed.run --standalone --nproc-per-node "$processes" "$here/$1" "${@:2}"; }
minutes() { awk "BEGIN { print $1 * $share }"; }
each_voice() { # a command for each voice, as many at once as there are processes
  printf '%s\n' $voices | xargs -P "$processes" -I VOICE "$python" "$here/$1" "${@:2}"
}

# 1. Speech with its text and timed phones.
each_voice corpus.py "$work/corpus" --voice VOICE --shards "$shards"
run corpus.py "$work/corpus" --voice rms --shards $((3 * shards))
# 2. The codec: once for the sound, once more with more weight on the phones (with 1.0 and a rate of 8e-4 it fell apart).
train codec.py "$work/corpus" "$work/codec-a" --minutes "$(minutes 100)" --bf16 --shares 1.2 1.2 1 1.2 --others 0.2 --shards 8
train codec.py "$work/corpus" "$work/codec-b" --goes-on-from "$work/codec-a/last.pt" --minutes "$(minutes 60)" --bf16 \
  --rate 4e-4 --shares 0.9 1.4 1.2 1.1 --others 0.2 --critic-from 0 --phone 0.5 --shards 9
run codec.py "$work/corpus" "$work/codec-b" --export "$work/codec"
# 3. Its codes of the corpus; a few shards of each voice at other speeds as well, which makes new voices.
each_voice encode.py "$work/corpus" "$work/codec" "$work/codes" --voice VOICE
for speed in $speeds; do
  each_voice encode.py "$work/corpus" "$work/codec" "$work/codes" --voice VOICE --part "$((shards - 1))/$shards" --speed "$speed"
done
everyone="$voices $(cd "$work/codes" && ls -d -- *@*)"
# 4. The language model: the default voice first, then all of them, with some rows without text, for guidance.
[ -e "$work/tokenizer" ] || run tokenizer.py "$work/tokenizer"
train align.py "$work/codes" "$work/tokenizer" "$work/lm-a" --minutes "$(minutes 50)" --muon --bf16 --tokens 1200
# shellcheck disable=SC2086 # a list of words
train align.py "$work/codes" "$work/tokenizer" "$work/lm" --knows "$work/lm-a/last.pt" --near --minutes "$(minutes 150)" \
  --muon --bf16 --tokens 1200 --joined 0.3 --textless 0.1 --voices $everyone
# 5. The decoder once more and deeper, with the codes as they are, for the sound.
# shellcheck disable=SC2086
train decoder.py "$work/corpus" "$work/codes" "$work/codec" "$work/decoder" --judges "$work/codec-b/last.pt" --layers 6 \
  --minutes "$(minutes 150)" --shards 5 --voices $everyone slt awb
# 6. The voice's folder: `llasa say -m WORK/voice` speaks with it.
run pack.py "$work/lm/model" "$work/decoder/codec" "$work/voice" --speakers $voices --guidance 1.5
