"""axolotl: rows that are too long are left out.

axolotl-ai-cloud/axolotl, src/axolotl/utils/data/utils.py (`handle_long_seq_in_dataset`), version
0.18.0 at commit 067b021c of 2026-07-24; `sequence_len` is 512 and `excess_length_strategy` "drop".
"""

from __future__ import annotations

from glmprep.peers.fate import drop_long

keep = drop_long
