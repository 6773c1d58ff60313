#!/usr/bin/env bash
# The main job on real samples: from a chat file to a trained adapter, every token accounted for.
# Usage: demo.sh [FOLDER]; the commands must be on the PATH (make demo sees to it).
set -euo pipefail
out=${1:-demo}
rm -rf "$out" && mkdir -p "$out"
data=(sample:counselling sample:toolcalls sample:meetings)

step() { printf '\n\033[1m── %s\033[0m\n$ %s\n' "$1" "${*:2}"; "${@:2}"; }

step "Is the data sound, and how long is it?" \
  glmprep audit "${data[@]}" --max-length 1024 --fail-on never --report "$out/audit.html"
step "Split what is too long, with overlap" \
  glmprep segment "${data[@]}" --max-length 1024 --overlap 2 \
  -o "$out/segments.jsonl" --report "$out/segment.html"
step "Tokenize into length buckets" \
  glmprep bucket "$out/segments.jsonl" --max-length 1024 --tokens-per-batch 2048 \
  -o "$out/shards" --report "$out/bucket.html"
step "Prove that nothing was lost" glmprep verify "$out/shards"
step "See what is trained" glmprep show "$out/shards" --row 0 --report "$out/show.html"
step "Can this machine train it, and in which precision?" \
  glmdiag hw --report "$out/hw.html"
step "Are the labels right?" glmdiag labels "$out/shards" --report "$out/labels.html"
step "Train a LoRA adapter" \
  glmtrain run --shards "$out/shards" --model tiny --method lora --max-steps 40 \
  --output "$out/run" --report "$out/train.html"
step "Did the loss behave?" glmdiag log "$out/run/metrics.jsonl" --report "$out/log.html"

printf '\n\033[1mDone.\033[0m\n'
printf '  adapter   %s\n' "$out/run/adapter_model.safetensors"
printf '  metrics   %s\n' "$out/run/metrics.jsonl"
printf '  shards    %s\n' "$out/shards"
for page in audit segment bucket show hw labels train log; do
  printf '  report    %s\n' "$out/$page.html"
done
