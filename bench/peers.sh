#!/usr/bin/env bash
# Installs the other trainers that bench/compare.py and bench/train.py measure, each in an environment of its own:
#     bash bench/peers.sh [FOLDER]
# FOLDER is ~/.cache/glmprep-bench by default; 2.5 GB. They need different versions of transformers
# and datasets, so one environment would hold one of them back. torch comes first: what needs it
# would otherwise bring gigabytes of CUDA libraries.
set -euo pipefail

FOLDER=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/glmprep-bench}
PYTHON=${PYTHON:-python3}

install_peer() {
  local environment=$FOLDER/$1
  shift
  [ "$(cat "$environment/.ready" 2>/dev/null)" = "$*" ] && return
  "$PYTHON" -m venv --clear "$environment"
  local pip=("$environment/bin/python" -m pip --disable-pip-version-check --quiet)
  "${pip[@]}" install torch==2.13.0
  "${pip[@]}" install torch==2.13.0 "$@"
  # Their published builds need CUDA libraries, and stop transformers where those are missing.
  "${pip[@]}" uninstall --yes torchvision torchaudio
  echo "$*" >"$environment/.ready"
}

install_peer llamafactory llamafactory==0.9.5 transformers==5.6.0 datasets==4.0.0 trl==0.24.0
install_peer trl trl==1.16.0 transformers==5.23.0 datasets==5.2.0 peft==0.21.2
