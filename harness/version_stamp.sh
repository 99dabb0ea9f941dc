#!/bin/sh
# Prints the header that names this build: version_stamp.sh VERSION COMPILER. The git hash only where this folder is the work tree.
hash=unknown
if top=$(git rev-parse --show-toplevel 2>/dev/null) && [ "$top" = "$(pwd -P)" ] && hash=$(git rev-parse --short=12 HEAD 2>/dev/null); then
    git diff --quiet HEAD -- 2>/dev/null || hash=$hash-dirty
else
    hash=unknown
fi
printf '#define DSB_STAMP_VERSION "%s"\n#define DSB_STAMP_HASH "%s"\n#define DSB_STAMP_COMPILER "%s"\n' "$1" "$hash" "$(printf %s "$2" | tr -d '"\\')"
