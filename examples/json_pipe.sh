#!/bin/sh
# A shell pipe: one command per line in, one JSON object per line out; prints each text and what it cost.
#
#   examples/json_pipe.sh --broker mqtt://localhost:1883 < commands.txt
#
# Flags go to `edge-agent generate`. The model is loaded once, for all lines.
set -eu

edge-agent generate - --lines --json "$@" | python3 -c '
import json, sys

for line in sys.stdin:
    report = json.loads(line)
    if report["error"]:
        print("FAILED", report["prompt"], report["error"], sep="\t")
    else:
        print(report["text"], report["num_uplinks"], report["num_bytes_up"], sep="\t", flush=True)
'
