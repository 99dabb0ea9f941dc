/* Which build this is; stored with every run. */
#ifndef DSB_HARNESS_VERSION_H
#define DSB_HARNESS_VERSION_H

extern const char dsb_version[];  /* "0.1.0" */
extern const char dsb_git_hash[]; /* "77fca5f1c2d3", "-dirty" after it where the tree was changed; "unknown" without git */
extern const char dsb_compiler[]; /* the compiler and its flags */

#endif
