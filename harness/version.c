#include "harness/version.h"

#include "version_stamp.h" /* written by make under build/ */

const char dsb_version[] = DSB_STAMP_VERSION;
const char dsb_git_hash[] = DSB_STAMP_HASH;
const char dsb_compiler[] = DSB_STAMP_COMPILER;
